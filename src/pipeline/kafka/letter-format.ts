import { DEAD_LETTER_CAUSES, type DeadLetter, type DeadLetterCause, TABLES } from '../../core/contracts.ts';
import { parseVersion } from '../../core/row-version.ts';
import type { PlainRecord } from './idempotent-writer.ts';

/*
 * A dead letter on its topic: the record's own value as it was, so that it can be sent again byte by byte, and one
 * header with everything else as JSON, so that a person can read it with any Kafka tool.
 */
const HEADER = 'letter';

/** `at`: when it was parked. */
export interface ParkedLetter extends DeadLetter {
  readonly at: string;
}

export function letterRecord(letter: DeadLetter, at: Date): PlainRecord {
  const { value, version, ...rest } = letter;
  const json = JSON.stringify({ ...rest, version: version?.toString() ?? null, at: at.toISOString() });
  return { key: letter.key === null ? letter.table : `${letter.table}/${letter.key.id}`, value, headers: { [HEADER]: json } };
}

/** Undefined for a record that is no letter of this program. */
export function parseLetter(headers: Readonly<Record<string, Buffer>>, value: Buffer | null): ParkedLetter | undefined {
  try {
    const { cause, detail, table, key, version, origin, at } = JSON.parse(headers[HEADER]?.toString('utf8') ?? 'null') as Record<string, unknown>;
    if (!DEAD_LETTER_CAUSES.includes(cause as DeadLetterCause) || !TABLES.includes(table as DeadLetter['table'])) return undefined;
    return {
      cause: cause as DeadLetterCause,
      detail: String(detail),
      table: table as DeadLetter['table'],
      key: key as DeadLetter['key'],
      version: version === null ? null : parseVersion(String(version)),
      origin: origin as DeadLetter['origin'],
      value,
      at: String(at),
    };
  } catch {
    return undefined;
  }
}
