import type { ServerResponse } from 'node:http';
import type { Pace } from './look.ts';
import { SECTIONS, type Section } from './watch.ts';

/** Changes that come together are sent together. */
const GATHER_MS = 250;
/** Tenants of a large installation are many bytes, and nobody reads their counts twice a second. */
const SLOW_MS: Readonly<Partial<Record<Section, number>>> = { tenants: 4_000, events: 1_000, letters: 1_000 };
/** Without a word for so long, proxies cut a connection. */
const ALIVE_EVERY_MS = 15_000;
/** A page that does not read is let go; it comes back by itself. */
const MOST_UNREAD_BYTES = 4 << 20;
const MOST_PAGES = 32;

/** The open pages, told of each section that has changed (server-sent events). */
export class Live implements Pace {
  readonly #section: (name: Section) => unknown;
  readonly #pages = new Set<ServerResponse>();
  readonly #texts = new Map<Section, string>();
  readonly #madeAt = new Map<Section, number>();
  readonly #alive: NodeJS.Timeout;
  #gathering: NodeJS.Timeout | undefined;
  readonly #onOpen = new Set<() => void>();

  constructor(section: (name: Section) => unknown) {
    this.#section = section;
    this.#alive = setInterval(() => this.#send(':\n\n'), ALIVE_EVERY_MS);
    this.#alive.unref();
  }

  watched(): boolean {
    return this.#pages.size > 0;
  }

  onOpen(listener: () => void): () => void {
    this.#onOpen.add(listener);
    return () => void this.#onOpen.delete(listener);
  }

  /** False: there are as many pages as there may be. */
  open(page: ServerResponse): boolean {
    if (this.#pages.size >= MOST_PAGES) return false;
    page.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
    page.write('retry: 2000\n\n');
    // the pages that are open already are told too of what is made anew for this one
    for (const name of this.#make(0)) this.#send(message(name, this.#texts.get(name)!));
    for (const [name, text] of this.#texts) page.write(message(name, text));
    this.#pages.add(page);
    page.once('close', () => this.#pages.delete(page));
    for (const listener of [...this.#onOpen]) listener();
    return true;
  }

  /** Something was looked at. */
  changed(): void {
    if (this.#pages.size === 0) return;
    this.#gathering ??= setTimeout(() => {
      this.#gathering = undefined;
      for (const name of this.#make(1)) this.#send(message(name, this.#texts.get(name)!));
    }, GATHER_MS);
  }

  close(): void {
    clearInterval(this.#alive);
    clearTimeout(this.#gathering);
    for (const page of this.#pages) page.end();
  }

  /** Makes the sections whose time has come (`patience` 0: all), and names those that have another text now. */
  #make(patience: 0 | 1): Section[] {
    const now = performance.now();
    return SECTIONS.filter((name) => {
      if (now - (this.#madeAt.get(name) ?? -Infinity) < (SLOW_MS[name] ?? 0) * patience) return false;
      this.#madeAt.set(name, now);
      const text = JSON.stringify(this.#section(name)) ?? 'null';
      const isNew = this.#texts.get(name) !== text;
      this.#texts.set(name, text);
      return isNew;
    });
  }

  #send(text: string): void {
    for (const page of this.#pages) {
      if (page.writableLength > MOST_UNREAD_BYTES) page.destroy();
      else page.write(text);
    }
  }
}

/** JSON has no line breaks of its own, so one line holds it. */
function message(name: Section, text: string): string {
  return `event: ${name}\ndata: ${text}\n\n`;
}
