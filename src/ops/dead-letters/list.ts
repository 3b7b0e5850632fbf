import type { DeadLetterCause, TableName } from '../../core/contracts.ts';
import type { DeadLetters, LetterGroup, StoredLetter } from '../../pipeline/kafka/dead-letters.ts';

export interface LetterLine {
  readonly id: string;
  readonly cause: DeadLetterCause;
  readonly table: TableName;
  readonly rowId: string | null;
  readonly detail: string;
  readonly at: string;
  readonly attempts: number;
}

export interface LetterList {
  readonly open: number;
  readonly groups: readonly LetterGroup[];
  /** The first open ones, at most `limit`. */
  readonly letters: readonly LetterLine[];
}

/** One pass over the topic; in memory are the groups and the lines asked for. */
export async function listLetters(letters: Pick<DeadLetters, 'letters' | 'groups'>, cause: DeadLetterCause | null, limit: number): Promise<LetterList> {
  const groups = (await letters.groups()).filter((group) => cause === null || group.cause === cause);
  const open = groups.reduce((sum, group) => sum + group.open, 0);
  const lines: LetterLine[] = [];
  if (open > 0) {
    for await (const slice of letters.letters()) {
      for (const letter of slice) if (letter.state === 'open' && (cause === null || letter.cause === cause) && lines.length < limit) lines.push(lineOf(letter));
      if (lines.length >= limit) break;
    }
  }
  return { open, groups, letters: lines };
}

function lineOf({ id, cause, table, key, detail, at, attempts }: StoredLetter): LetterLine {
  return { id, cause, table, rowId: key?.id ?? null, detail, at, attempts };
}

/** Everything about a letter but the row's values. */
export function describeLetter({ id, state, attempts, cause, detail, table, key, version, origin, at, value }: StoredLetter) {
  return { id, state, attempts, cause, detail, table, key, version: version === null ? null : String(version), origin, at, valueBytes: value?.length ?? null };
}
