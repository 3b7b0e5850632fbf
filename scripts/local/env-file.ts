import { chmodSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { allOptions } from '../../src/config/options.ts';

/**
 * Every variable that the program reads, those that are not given empty, which means their default: of a `.env` in the
 * working directory, which may name servers in production, nothing is left.
 */
export function everyVariable(given: Readonly<Record<string, string>>): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const { option } of allOptions()) {
    variables[option.env] = '';
    if (option.secret) variables[`${option.env}_FILE`] = '';
  }
  return { ...variables, ...given };
}

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
