import { spawn, type ChildProcess } from 'node:child_process';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { CHECKOUT } from '../local/maven.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** The program as a user calls it. */
const PROGRAM = join(CHECKOUT, 'bin/dify-es');

export interface Finished {
  readonly code: number;
  readonly stdout: string;
}

/** Runs one verb to its end. Its standard error (progress bars, logs) goes to the terminal, its answer too when `show`. */
export function verb(env: Environment, args: readonly string[], show = true): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(PROGRAM, args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
    let stdout = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      if (show) process.stdout.write(text);
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code: code ?? 1, stdout }));
  });
}

/** A long-running verb in the background, its lines in a log file. */
export function background(env: Environment, args: readonly string[], logFile: string): ChildProcess {
  const log = openSync(logFile, 'w');
  return spawn(PROGRAM, args, { env, stdio: ['ignore', log, log] });
}

/** Asks it to end, as an operator does, and waits for it. */
export function end(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once('exit', () => resolve());
    child.kill('SIGTERM');
  });
}
