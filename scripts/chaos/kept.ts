import { setTimeout as sleep } from 'node:timers/promises';
import { READY, type Pipeline } from '../../test/support/pipeline.ts';
import type { Program } from '../../test/support/program.ts';

/** How a program that nobody killed may end: 0 for one that has finished, 3 while a server is away. */
const PASSING_CODES: ReadonlySet<number> = new Set([0, 3]);
const RESTART_MS = 500;

/** One verb that is started again whenever it ends, as a supervisor of containers does. */
export class KeptProgram {
  readonly name: string;
  kills = 0;
  finished = 0;
  /** It ended by itself, because a server was away at its start. */
  away = 0;
  /** Ends that no kill and no absent server explains, with the last lines said. */
  readonly faults: string[] = [];
  readonly #pipeline: Pipeline;
  readonly #args: readonly string[];
  readonly #onEnd: (program: Program) => void;
  #current: Program | undefined;
  #wanted = true;
  #killed = false;
  readonly #done: Promise<void>;

  constructor(pipeline: Pipeline, args: readonly string[], onEnd: (program: Program) => void = () => {}) {
    this.name = args[0] ?? '';
    this.#pipeline = pipeline;
    this.#args = args;
    this.#onEnd = onEnd;
    this.#done = this.#keep();
  }

  /** SIGKILL now, if it runs. Returns whether it did. */
  async kill(): Promise<boolean> {
    const program = this.#current;
    if (!program?.isRunning()) return false;
    this.#killed = true;
    this.kills++;
    await program.kill9();
    return true;
  }

  /** It runs and has said that it works; a verb that says no such thing is always at work. */
  isAtWork(): boolean {
    const program = this.#current;
    return program !== undefined && program.isRunning() && (READY[this.name] ?? []).every((line) => program.hasSaid(line));
  }

  /** Starts it no more; a verb that ends by itself is waited for. */
  async last(): Promise<void> {
    this.#wanted = false;
    await this.#done;
  }

  async #keep(): Promise<void> {
    while (this.#wanted) {
      this.#killed = false;
      const program = this.#pipeline.spawn(this.#args);
      this.#current = program;
      const { code } = await program.ended;
      this.#onEnd(program);
      if (!this.#killed) {
        if (code === 0) this.finished++;
        else if (code === 3) this.away++;
        if (code === null || !PASSING_CODES.has(code)) this.faults.push(program.describe(10));
      }
      await sleep(RESTART_MS);
    }
  }
}

/** Runs a verb that ends by itself until it has ended well, through servers that are still coming back. Returns its output. */
export async function untilDone(pipeline: Pipeline, args: readonly string[], attempts = 20): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    const program = pipeline.spawn(args);
    const { code } = await program.ended;
    if (code === 0) return program.stdout;
    if (code !== 3 || attempt >= attempts) throw new Error(`did not end well\n${program.describe()}`);
    await sleep(1_000);
  }
}
