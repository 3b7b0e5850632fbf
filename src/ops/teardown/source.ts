import { crashPoint } from '../../core/crash-point.ts';
import { DifyEsError } from '../../core/errors.ts';
import { query, type Queryable } from '../../pipeline/capture/pg-connection.ts';
import { inspectSlot, type SlotState } from '../../pipeline/capture/slot.ts';
import type { SourceNames } from '../setup/fitness.ts';
import { isOwnPublication } from '../setup/names.ts';
import type { OpsSession } from '../setup/session.ts';
import { throwIfStopped } from '../setup/session.ts';
import { withShortLock } from '../setup/short-lock.ts';
import { requireIdle } from '../setup/slot-step.ts';
import { publicationsOf, readPublication, readTables, type PublicationState, type TableState } from '../setup/source-state.ts';
import { dropIdentityIndex, dropPublication, dropSlot, setReplicaIdentity } from '../setup/sql.ts';
import type { StepReport } from '../setup/step.ts';
import { describeIdentityName, tablePlan, type TablePlan } from './plan.ts';

export interface SourceRemains {
  readonly publication: PublicationState | null;
  readonly slot: SlotState | null;
  readonly tables: readonly TableState[];
  readonly plans: readonly TablePlan[];
}

/** What is still there of setup; reads only. */
export async function readRemains(db: Queryable, { schema, publication, slot }: SourceNames): Promise<SourceRemains> {
  const tables = (await readTables(db, schema)).filter((state) => state.relkind === 'r');
  const plans: TablePlan[] = [];
  for (const state of tables) {
    const others = (await publicationsOf(db, schema, state.table)).filter(({ name }) => name !== publication);
    const usedBy = others.find(({ comment }) => isOwnPublication(comment))?.name ?? null;
    plans.push(tablePlan(state, { usedBy, published: others.length > 0, usableIndexes: await usableIndexes(db, state.oid) }));
  }
  return { publication: await readPublication(db, publication, schema), slot: (await inspectSlot(db, slot)) ?? null, tables, plans };
}

async function usableIndexes(db: Queryable, table: number): Promise<Set<string>> {
  const rows = await query<{ name: string }>(
    db,
    `SELECT x.relname AS name FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
      WHERE i.indrelid = $1::int8::oid AND i.indisvalid AND i.indisready AND i.indisunique AND i.indimmediate AND i.indpred IS NULL`,
    [table],
  );
  return new Set(rows.map(({ name }) => name));
}

/** Refuses before anything is touched: a slot that is read, another program's slot, a role that may not. */
export function requireRemovable({ publication, slot, tables, plans }: SourceRemains, { database, publication: publicationName, slot: slotName }: SourceNames): void {
  if (slot) {
    requireIdle(slot, 'its reader has to be stopped first');
    if (slot.database !== database || slot.plugin !== 'pgoutput') throw new DifyEsError('PG_UNFIT', `slot ${slotName} is not a pgoutput slot of database ${database}: CDC_SLOT names somebody else's`);
  }
  const lacking = plans.filter(({ restore, dropIndex, table }) => (restore !== null || dropIndex) && !tables.find((state) => state.table === table)!.owned).map(({ table }) => table);
  const lines = lacking.length > 0 ? [`the role does not own ${lacking.join(', ')}, whose index and replica identity are to be taken back: have their owner run what teardown --print-sql prints`] : [];
  if (publication && !publication.owned) lines.push(`the role does not own the publication ${publicationName}: have its owner run what teardown --print-sql prints`);
  if (lines.length > 0) throw new DifyEsError('PG_RIGHTS', lines.join('\n'));
}

export interface SourceTeardown {
  readonly names: SourceNames;
  readonly lockWaitMs: number;
  readonly report: (step: StepReport) => void;
}

/**
 * Publication → slot → identity as it was → index: the way back of setup. An index that is dropped while it is the
 * identity makes every UPDATE and DELETE of a published table fail.
 */
export async function tearDownSource(session: OpsSession, { names, lockWaitMs, report }: SourceTeardown, remains: SourceRemains): Promise<void> {
  const { work, patiently } = session;
  throwIfStopped(session.signal);
  if (remains.publication) {
    await patiently(`publication ${names.publication}`, () => work.query(dropPublication(names.publication)));
    crashPoint('teardown.publication-dropped');
  }
  report({ step: 'publication', subject: names.publication, did: remains.publication ? 'done' : 'already', detail: remains.publication ? 'dropped' : '' });

  throwIfStopped(session.signal);
  if (remains.slot) {
    await work.query(dropSlot(names.slot));
    crashPoint('teardown.slot-dropped');
  }
  report({ step: 'slot', subject: names.slot, did: remains.slot ? 'done' : 'already', detail: remains.slot ? 'dropped; the server keeps no more WAL for it' : '' });

  for (const plan of remains.plans) {
    throwIfStopped(session.signal);
    await takeBack(session, { names, lockWaitMs, report }, plan);
  }
}

async function takeBack(session: OpsSession, { names: { schema }, lockWaitMs, report }: SourceTeardown, { table, oid, restore, dropIndex, keptFor }: TablePlan): Promise<void> {
  if (keptFor !== null) return report({ step: 'identity', subject: table, did: 'kept', detail: `publication ${keptFor} of another installation needs it` });
  if (restore) {
    await withShortLock(session, { what: `replica identity of ${table}`, table: oid, statements: setReplicaIdentity(schema, table, restore), waitMs: lockWaitMs });
    crashPoint('teardown.identity-restored');
  }
  report({ step: 'identity', subject: table, did: restore ? 'done' : 'already', detail: restore ? `${describeIdentityName(restore)} again` : '' });
  if (dropIndex) {
    await requireUnused(session, schema, table);
    await session.patiently(`dropping the identity index of ${table}`, () => session.work.query(dropIdentityIndex(schema, table)));
    crashPoint('teardown.index-dropped');
  }
  report({ step: 'index', subject: table, did: dropIndex ? 'done' : 'already', detail: dropIndex ? 'dropped' : '' });
}

/** Looked at again right before the drop: somebody may have run setup by hand meanwhile. */
async function requireUnused({ work }: OpsSession, schema: string, table: string): Promise<void> {
  const state = (await readTables(work, schema)).find((found) => found.table === table);
  if (state?.identity.kind === 'index' && state.identity.index.name === state.ownIndex?.name) {
    throw new DifyEsError('SETUP_BLOCKED', `the identity index of ${table} became the replica identity again meanwhile`);
  }
}
