import type { DeadLetter, DeadLetterCause, LoggedTransaction, MadeRecords, RowChange, RowRecord } from '../../core/contracts.ts';
import { formatLsn } from '../../core/lsn.ts';
import { sameDocument, sameKey, type RowKey } from '../../core/row-key.ts';
import { versionOfCommit, type RowVersion } from '../../core/row-version.ts';
import { keyOf } from './key-columns.ts';
import { isGone, type WholeChange } from './whole-rows.ts';

export interface RecordRules {
  readonly epoch: number;
  /** DELETE_POLICY. It is about deletes: a row that moves to another tenant or month leaves its old place either way. */
  readonly deletePolicy: 'apply' | 'ignore';
  /** True when this run id stands on the control topic: anybody may write a marker into the log. */
  readonly isAnnouncedCleanup: (runId: string) => boolean;
}

export interface MadeOfChange extends MadeRecords {
  /** The row is gone: to be parked as this, unless the log explains it. */
  readonly waits: DeadLetter | null;
}

/**
 * What a change becomes on its table's topic: none, one or two records, and dead letters for what cannot be one.
 *
 * All changes of a transaction carry its commit LSN as version; the order of the records settles their ties. A row that
 * moved leaves a tombstone under its old key. Where that names the same document it must not delete it: compaction may
 * leave of the new key only a record of an older version, a backfill's (docs/decisions/0019).
 */
export function recordsOf(whole: WholeChange, rules: RecordRules): MadeOfChange {
  const { transaction, change } = whole;
  const version = versionOfCommit(rules.epoch, transaction.commitLsn);
  const make = { transaction, change, version };
  if (change.kind === 'delete') return deleted(make, rules);

  const key = keyOf(change.relation.shape, change.tuple);
  if (!key) return parked(make, 'bad-key', 'a row whose id or tenant_id is no uuid, or without tenant_id and created_at', null);
  const records: RowRecord[] = [];
  const letters: DeadLetter[] = [];
  if (change.kind === 'update' && change.old.kind !== 'absent') {
    const former = keyOf(change.relation.shape, change.old.cells);
    if (!former) letters.push(letter(make, 'bad-key', `a row changed its id and its old key is not in the log: the replica identity is ${change.relation.replicaIdentity}`, null));
    else if (!sameKey(former, key)) {
      const stays = sameDocument(former, key);
      // Where no value follows and deletes are ignored, what the log has under the old key is all that is left of the row.
      if (!stays || !isGone(whole.row) || rules.deletePolicy === 'apply') records.push(record(make, former, stays ? 'moved' : 'delete', null));
    }
  }
  if (!isGone(whole.row)) {
    records.push(record(make, key, change.kind, whole.row));
    return { records, letters, waits: null };
  }
  const gone = letter(make, 'row-gone', 'an unchanged TOAST column could not be filled: the row is gone', key);
  // Where deletes are ignored none comes that would take the document away.
  if (rules.deletePolicy === 'ignore') return { records, letters: [...letters, gone], waits: null };
  return { records, letters, waits: gone };
}

interface Make {
  readonly transaction: LoggedTransaction;
  readonly change: RowChange;
  readonly version: RowVersion;
}

const NOTHING: MadeOfChange = { records: [], letters: [], waits: null };

function deleted(make: Make, rules: RecordRules): MadeOfChange {
  const { cleanupRunId } = make.transaction;
  if (rules.deletePolicy === 'ignore') return NOTHING;
  if (cleanupRunId !== null && rules.isAnnouncedCleanup(cleanupRunId)) return NOTHING;
  const { change } = make;
  const key = change.kind === 'delete' && change.old.kind !== 'absent' ? keyOf(change.relation.shape, change.old.cells) : undefined;
  if (!key) return parked(make, 'bad-key', `a delete without tenant_id and created_at: the replica identity is ${change.relation.replicaIdentity}`, null);
  return { records: [record(make, key, 'delete', null)], letters: [], waits: null };
}

function record({ transaction, change, version }: Make, key: RowKey, op: RowRecord['op'], row: RowRecord['row']): RowRecord {
  return { table: change.relation.shape.table, key, version, op, lsn: transaction.commitLsn, timeMs: transaction.commitTimeMs, row };
}

function letter({ transaction, change, version }: Make, cause: DeadLetterCause, detail: string, key: RowKey | null): DeadLetter {
  const origin = { stage: 'stream', lsn: formatLsn(transaction.commitLsn) } as const;
  return { cause, detail, table: change.relation.shape.table, key, version, origin, value: null };
}

function parked(make: Make, cause: DeadLetterCause, detail: string, key: RowKey | null): MadeOfChange {
  return { records: [], letters: [letter(make, cause, detail, key)], waits: null };
}
