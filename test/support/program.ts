import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { CrashPoint } from '../../src/core/crash-point.ts';

const PROGRAM = resolve(import.meta.dirname, '../../bin/dify-es');
const KEPT_LINES = 400;
/** There to end what hangs, not to fail a busy machine. */
export const PATIENCE_MS = 150_000;

export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** The process ends itself with SIGKILL the nth time it passes the point (default 1). */
  readonly crashAt?: { readonly point: CrashPoint; readonly nth?: number };
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** One run of the real program as a child process, with its last lines kept for the report of a failure. */
export class Program {
  readonly args: readonly string[];
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  readonly #waiting = new Set<(line: string) => void>();
  readonly #witness: string;
  #stdout = '';
  #result: Ended | undefined;

  constructor(env: Readonly<Record<string, string>>, args: readonly string[], options: StartOptions = {}) {
    this.args = args;
    const scratch = mkdtempSync(join(tmpdir(), 'dify-es-witness-'));
    this.#witness = join(scratch, 'witness');
    const { crashAt } = options;
    this.#child = spawn(PROGRAM, args, {
      // Where no .env is, which may name servers in production.
      cwd: scratch,
      env: {
        PATH: process.env['PATH'] ?? '', ...env, ...options.env,
        ...(crashAt ? { DIFY_ES_CRASH_AT: `${crashAt.point}:${crashAt.nth ?? 1}`, DIFY_ES_CRASH_WITNESS: this.#witness } : {}),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    // A test process that ends early must leave no reader behind that holds the slot.
    const killAtExit = (): void => void this.#child.kill('SIGKILL');
    process.once('exit', killAtExit);
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.#stdout += text));
    createInterface({ input: this.#child.stderr! }).on('line', (line) => this.#line(line));
    this.ended = new Promise((done, fail) => {
      this.#child.once('error', fail);
      this.#child.once('close', (code, signal) => {
        process.off('exit', killAtExit);
        this.#result = { code, signal };
        this.#seen = existsSync(this.#witness) ? readFileSync(this.#witness, 'utf8').trim() : '';
        rmSync(scratch, { recursive: true, force: true });
        done(this.#result);
        for (const notify of this.#waiting) notify('');
      });
    });
  }

  #seen = '';

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get stdout(): string {
    return this.#stdout;
  }

  /** Its last lines on standard error. */
  get stderr(): readonly string[] {
    return this.#lines;
  }

  isRunning(): boolean {
    return this.#result === undefined;
  }

  /** The crash point that the process wrote down before it killed itself; empty when it reached none. */
  get witness(): string {
    return this.#seen;
  }

  /** Resolves at the first line of its log that holds the text, past ones included. Rejects when the process ends before. */
  async said(text: string, timeoutMs = PATIENCE_MS): Promise<void> {
    if (this.#lines.some((line) => line.includes(text))) return;
    await new Promise<void>((done, fail) => {
      const stop = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(look);
      };
      const look = (line: string): void => {
        if (line.includes(text)) {
          stop();
          done();
        } else if (!this.isRunning()) {
          stop();
          fail(new Error(`${this.describe()} ended before it said ${JSON.stringify(text)}`));
        }
      };
      const timer = setTimeout(() => {
        stop();
        fail(new Error(`not said within ${timeoutMs / 1000} s: ${JSON.stringify(text)}\n${this.describe()}`));
      }, timeoutMs);
      this.#waiting.add(look);
      look('');
    });
  }

  hasSaid(text: string): boolean {
    return this.#lines.some((line) => line.includes(text));
  }

  /** SIGKILL, and waits until it is gone. */
  async kill9(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended;
  }

  /** SIGTERM as an operator sends it. Throws when the program does not end with 0. */
  async stop(): Promise<void> {
    if (this.isRunning()) this.#child.kill('SIGTERM');
    const { code } = await this.ended;
    if (code !== 0) throw new Error(`did not stop cleanly\n${this.describe()}`);
  }

  pause(): void {
    this.#child.kill('SIGSTOP');
  }

  resume(): void {
    this.#child.kill('SIGCONT');
  }

  /** What it was and the last lines it said. */
  describe(lines = 25): string {
    const end = this.#result ? `ended with ${this.#result.signal ?? this.#result.code}` : 'still running';
    return [`dify-es ${this.args.join(' ')} (pid ${this.pid}, ${end}):`, ...this.#lines.slice(-lines).map((line) => `  ${line.slice(0, 600)}`), ...this.#stdout.split('\n').slice(-5).map((line) => `  > ${line}`)].join('\n');
  }

  #line(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > KEPT_LINES) this.#lines.shift();
    for (const notify of [...this.#waiting]) notify(line);
  }
}
