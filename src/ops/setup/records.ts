import type { TableName } from '../../core/contracts.ts';
import { crashPoint } from '../../core/crash-point.ts';
import { formatLsn, type Lsn } from '../../core/lsn.ts';
import { stateKeys, type BackfillRequired, type ControlLog, type EpochRecord, type PublishedRecord } from '../../core/state.ts';
import { abandonRuns } from '../../pipeline/backfill/backfill.ts';
import { addRequired } from '../../pipeline/backfill/run-record.ts';
import { decideEpoch, epochRecord, type EpochDecision, type ObservedSource } from '../../pipeline/capture/epoch.ts';

export interface PublishedTable {
  readonly table: TableName;
  readonly oid: number;
}

export interface Recording {
  readonly control: ControlLog;
  /** The epoch as it is remembered, in Kafka or in Elasticsearch. */
  readonly recorded: EpochRecord | undefined;
  /** Null while a reader holds the slot: then the epoch is the reader's to write. */
  readonly observed: ObservedSource | null;
  readonly tables: readonly PublishedTable[];
  /** Taken after the last step on the server: a backfill has to begin behind it. */
  readonly nowLsn: Lsn;
  readonly at: Date;
}

export interface Recorded {
  readonly required: readonly TableName[];
  readonly reasons: readonly string[];
  readonly epoch: number | null;
}

/**
 * Records what the slot and the publication mean: which tables have to be read again, then the epoch with the slot's
 * position as high-water mark.
 *
 * Decided by comparing server and records and not by what this run did, so that a kill between the slot and its record
 * is made good by the next run: a slot that was just created stands above everything that was ever confirmed. What must
 * be read comes first; recorded the other way round, a kill in between would forget it. The epoch comes last: without it
 * the next run finds the same news and says the same of it.
 */
export async function recordSource({ control, recorded, observed, tables, nowLsn, at }: Recording): Promise<Recorded> {
  const decision = observed ? decideEpoch(recorded, observed) : null;
  const news = decision !== null && (decision.changed !== null || decision.slotMoved);
  const epoch = decision?.epoch ?? recorded?.epoch ?? 1;
  const due = news ? tables : tables.filter(({ table, oid }) => control.get<PublishedRecord>(stateKeys.published(table))?.oid !== oid);
  const fresh = due.map(({ table }): BackfillRequired => ({
    table, reason: news ? reasonOf(decision) : (control.get<BackfillRequired>(stateKeys.required(table))?.reason ?? 'schema-drift'),
    sinceLsn: formatLsn(nowLsn), sinceEpoch: epoch, reconcile: decision?.changed !== 'first', at: at.toISOString(),
  }));
  if (fresh.length > 0) await addRequired(control, fresh);
  crashPoint('setup.required-recorded');
  // what they read before the slot began may have changed since, and nothing will tell
  if (news) await abandonRuns(control);
  for (const { table, oid } of due) await control.put(stateKeys.published(table), { oid, at: at.toISOString() } satisfies PublishedRecord);
  crashPoint('setup.published-recorded');
  if (news && observed) await control.put(stateKeys.epoch, epochRecord(decision, observed, at));
  crashPoint('setup.epoch-recorded');
  const reasons = due.length === 0 ? [] : news ? decision.reasons : [`not published until now: ${due.map(({ table }) => table).join(', ')}`];
  return { required: due.map(({ table }) => table), reasons, epoch: observed ? epoch : null };
}

/**
 * Tables whose topics are missing while the state is there: somebody deleted them. What was confirmed to PostgreSQL and
 * not indexed yet is gone, and a replay has nothing of it. Only their absence tells, so this comes before they are made
 * anew. Without an epoch no reader has published anything. Returns those whose backfill is required now.
 */
export async function recordLostTopics(control: ControlLog, lost: readonly TableName[], nowLsn: Lsn, at: Date): Promise<readonly TableName[]> {
  const epoch = control.get<EpochRecord>(stateKeys.epoch)?.epoch;
  if (epoch === undefined) return [];
  await addRequired(control, lost.map((table) => ({ table, reason: 'kafka-data-lost', sinceLsn: formatLsn(nowLsn), sinceEpoch: epoch, reconcile: true, at: at.toISOString() })));
  return lost;
}

function reasonOf({ changed }: EpochDecision): BackfillRequired['reason'] {
  if (changed === null) return 'slot-created';
  return changed === 'first' ? 'first-run' : changed;
}
