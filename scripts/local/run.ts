import { spawn } from 'node:child_process';
import type { ServerUser } from './user.ts';

export interface RunResult {
  /** 0 is success; null when it could not be run or was ended by a signal. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Set when the command does not exist or may not be run. */
  readonly error: Error | undefined;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly user?: ServerUser | undefined;
  /** Written to its standard input. */
  readonly input?: string;
}

/** Runs a command to its end without blocking: three servers start side by side. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: options.env ?? process.env,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.user ?? {}),
    });
    // A command that ends without reading its input is no fault of ours.
    child.stdin.on('error', () => undefined).end(options.input ?? '');
    const output = { stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output.stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (output.stderr += text));
    child.once('error', (error) => resolve({ status: null, ...output, error }));
    child.once('close', (status) => resolve({ status, ...output, error: undefined }));
  });
}
