import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ProcessMark } from './process.ts';

export const SERVER_KINDS = ['pg', 'kafka', 'es'] as const;
export type ServerKind = (typeof SERVER_KINDS)[number];

/** What `status`, `down` and the next `up` know of a server, kept in `<dir>/run/<kind>.json`. `mark` is null after a stop. */
export interface ServerState {
  readonly kind: ServerKind;
  readonly version: string;
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
  readonly url: string;
  readonly home: string;
  readonly logFile: string;
  readonly mark: ProcessMark | null;
  readonly env: Readonly<Record<string, string>>;
}

function stateFile(dir: string, kind: ServerKind): string {
  return join(dir, 'run', `${kind}.json`);
}

export function readState(dir: string, kind: ServerKind): ServerState | undefined {
  const file = stateFile(dir, kind);
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as ServerState) : undefined;
}

export function writeState(dir: string, state: ServerState): void {
  const file = stateFile(dir, state.kind);
  mkdirSync(join(dir, 'run'), { recursive: true });
  writeFileSync(`${file}.new`, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}
