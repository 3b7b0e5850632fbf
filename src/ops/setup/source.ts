import { crashPoint } from '../../core/crash-point.ts';
import type { TableName } from '../../core/contracts.ts';
import type { Queryable } from '../../pipeline/capture/pg-connection.ts';
import { inspectSlot } from '../../pipeline/capture/slot.ts';
import { requireFit, type SourceNames, type SourceState } from './fitness.ts';
import { ensureIdentity } from './identity.ts';
import { stopsDify } from './identity-plan.ts';
import { publicationPlan } from './publication-plan.ts';
import { readServerFacts } from './server-facts.ts';
import { throwIfStopped, type OpsSession } from './session.ts';
import { dropUselessSlot, ensureSlot, requireIdle, slotToDrop } from './slot-step.ts';
import { readPublication, readTables } from './source-state.ts';
import type { StepReport } from './step.ts';

export interface SourceSetup {
  readonly names: SourceNames;
  readonly lockWaitMs: number;
  /** Called before tables are added to a publication that existed: what they changed until now was not published. */
  readonly beforeAdding: (tables: readonly TableName[]) => Promise<void>;
  readonly report: (step: StepReport) => void;
}

/** Everything that setup and check need to know of PostgreSQL; reads only. */
export async function readSource(db: Queryable, { schema, publication, slot }: SourceNames): Promise<SourceState> {
  return {
    server: await readServerFacts(db),
    tables: await readTables(db, schema),
    publication: await readPublication(db, publication, schema),
    slot: (await inspectSlot(db, slot)) ?? null,
  };
}

/** Refuses what cannot be set up, before anything is touched. */
export function requireReady(state: SourceState, names: SourceNames): void {
  requireFit(state, names);
  if (state.slot && slotToDrop(state) !== null) requireIdle(state.slot, 'it has to be made anew');
}

/**
 * Index → identity → publication → slot. Each step looks first, so it may be run at any time and after any kill. The
 * identity comes before the publication, since PostgreSQL refuses UPDATE and DELETE on a published table whose identity
 * is unusable; the slot comes last, since from then on the server keeps WAL.
 */
export async function setUpSource(session: OpsSession, options: SourceSetup, before: SourceState): Promise<void> {
  const { names, lockWaitMs, report } = options;
  // what stops Dify now comes first
  const tables = before.tables.toSorted((a, b) => Number(stopsDify(b)) - Number(stopsDify(a)));
  for (const state of tables) {
    throwIfStopped(session.signal);
    for (const step of await ensureIdentity(session, { schema: names.schema, waitMs: lockWaitMs }, state)) report(step);
  }
  throwIfStopped(session.signal);
  for (const step of await dropUselessSlot(session, before)) report(step);
  report(await ensurePublication(session, options, before));
  throwIfStopped(session.signal);
  report(await ensureSlot(session, names.slot));
}

async function ensurePublication(session: OpsSession, { names, beforeAdding }: SourceSetup, { publication, tables }: SourceState): Promise<StepReport> {
  const plan = publicationPlan(names.publication, names.schema, tables.map(({ table }) => table), publication);
  if (publication && plan.added.length > 0) await beforeAdding(plan.added);
  // its lock on the tables shuts no reader or writer out, so it may wait as long as it takes
  for (const statement of plan.statements) await session.patiently(`publication ${names.publication}`, () => session.work.query(statement));
  if (plan.statements.length > 0) crashPoint('setup.publication-created');
  return { step: 'publication', subject: names.publication, did: plan.did ? 'done' : 'already', detail: plan.did };
}
