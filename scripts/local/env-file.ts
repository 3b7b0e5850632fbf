import { chmodSync, readFileSync, renameSync, writeFileSync } from 'node:fs';

/** Shell lines `export NAME='value'`, for `. .local/env`. Only its owner may read the file: it holds passwords. */
export function writeEnvFile(file: string, variables: Readonly<Record<string, string>>): void {
  const lines = Object.entries(variables).map(([name, value]) => `export ${name}=${quote(value)}`);
  writeFileSync(`${file}.new`, `${lines.join('\n')}\n`, { mode: 0o600 });
  chmodSync(`${file}.new`, 0o600);
  renameSync(`${file}.new`, file);
}

function quote(value: string): string {
  return `'${value.replaceAll("'", `'\\''`)}'`;
}

/** Reads what writeEnvFile wrote. */
export function readEnvFile(file: string): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const [, name, value] of readFileSync(file, 'utf8').matchAll(/^export ([A-Z0-9_]+)='((?:[^']|'\\'')*)'$/gm)) {
    if (name !== undefined && value !== undefined) variables[name] = value.replaceAll(`'\\''`, "'");
  }
  return variables;
}
