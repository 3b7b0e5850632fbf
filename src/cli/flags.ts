import { TABLES, type TableName } from '../core/contracts.ts';
import { isUuid } from '../core/row-key.ts';
import { CONNECTORS, connectorOfDataType } from '../connector/registry.ts';

type Flags = Readonly<Record<string, unknown>>;

/** `--tenant-id a,b`: dashed uuids, lower-cased as PostgreSQL prints them. Empty when the flag is not given. */
export function tenantIds(flags: Flags, faults: string[], name = 'tenantId'): string[] {
  const tenants = list(flags[name]).map((text) => text.toLowerCase());
  for (const tenant of tenants) if (!isUuid(tenant)) faults.push(`--tenant-id ${JSON.stringify(tenant)} is no uuid`);
  if (flags[name] !== undefined && tenants.length === 0) faults.push('--tenant-id is empty');
  return [...new Set(tenants)];
}

/** `--data-type workflow_runs|app_logs|…`, comma separated; all four tables when it is not given. */
export function tables(flags: Flags, faults: string[]): TableName[] {
  if (flags['dataType'] === undefined) return [...TABLES];
  const names = list(flags['dataType']);
  if (names.length === 0) faults.push('--data-type is empty');
  const found = new Set<TableName>();
  for (const name of names) {
    const connector = connectorOfDataType(name);
    if (connector) found.add(connector.table);
    else faults.push(`--data-type ${JSON.stringify(name)} is none of ${Object.values(CONNECTORS).map((c) => c.dataType).join(', ')}`);
  }
  return TABLES.filter((table) => found.has(table));
}

/** A whole number in a range, or undefined when the flag is not given. `beyond`: what to do instead of more. */
export function wholeNumber(flags: Flags, faults: string[], name: string, flag: string, min: number, max: number, beyond = ''): number | undefined {
  const text = flags[name];
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!/^\d+$/.test(String(text)) || value < min || value > max) faults.push(`${flag} ${JSON.stringify(text)} is no whole number from ${min} to ${max}${beyond && `; ${beyond}`}`);
  return value;
}

/** A calendar day as PostgreSQL compares it, `2025-10-31 00:00:00`, UTC; null when the flag is not given. */
export function startOfDay(flags: Flags, faults: string[], name: string, flag: string): string | null {
  const day = parseDay(flags[name], flag, faults);
  return day === null ? null : sqlTime(day);
}

/** As startOfDay, but the start of the day after: an end date is inclusive of its day. */
export function startOfNextDay(flags: Flags, faults: string[], name: string, flag: string): string | null {
  const day = parseDay(flags[name], flag, faults);
  return day === null ? null : sqlTime(day + 86_400_000);
}

/** The years that PostgreSQL and an index name both have, and a day after which there is another of them. */
const YEARS = /^(?!0000|9999)\d{4}-\d{2}-\d{2}$/;

/** A calendar day, or NaN: Date.parse takes 2025-02-30 for the second of March. */
function utcDay(text: string): number {
  const day = YEARS.test(text) ? Date.parse(`${text}T00:00:00Z`) : Number.NaN;
  return Number.isNaN(day) || new Date(day).toISOString().slice(0, 10) !== text ? Number.NaN : day;
}

/** A moment with its zone, in milliseconds; null when the flag is not given. Without a zone it would be another one on each machine. */
export function moment(flags: Flags, faults: string[], name: string, flag: string): number | null {
  const value = flags[name];
  if (value === undefined) return null;
  const match = /^(\d{4}-\d{2}-\d{2})T\d{2}:\d{2}(:\d{2}(\.\d{1,3})?)?(Z|[+-]\d{2}:\d{2})$/.exec(String(value));
  const ms = match && !Number.isNaN(utcDay(match[1]!)) ? Date.parse(String(value)) : Number.NaN;
  if (Number.isNaN(ms)) faults.push(`${flag} ${JSON.stringify(value)} is no time with its zone, like 2026-07-01T12:00:00Z`);
  else if (ms > Date.now()) faults.push(`${flag} ${String(value)} is in the future`);
  return ms;
}

/** A text that is not empty, or null when the flag is not given. */
export function text(flags: Flags, faults: string[], name: string, flag: string): string | null {
  const value = flags[name];
  if (value === undefined) return null;
  if (String(value).trim() === '') faults.push(`${flag} is empty`);
  return String(value);
}

function parseDay(value: unknown, flag: string, faults: string[]): number | null {
  if (value === undefined) return null;
  const day = utcDay(String(value));
  if (Number.isNaN(day)) {
    faults.push(`${flag} ${JSON.stringify(value)} is no date like 2025-10-31 (UTC)`);
    return null;
  }
  return day;
}

function sqlTime(ms: number): string {
  return new Date(ms).toISOString().slice(0, 19).replace('T', ' ');
}

/** The words of a list flag, which may be given with commas, with blanks, or several times. */
export function list(value: unknown): string[] {
  const values = Array.isArray(value) ? value : value === undefined ? [] : [value];
  return values.flatMap((item) => String(item).split(',')).map((item) => item.trim()).filter(Boolean);
}
