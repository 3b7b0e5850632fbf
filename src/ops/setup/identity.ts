import { crashPoint } from '../../core/crash-point.ts';
import { DifyEsError } from '../../core/errors.ts';
import { identitySteps, type IdentityStep } from './identity-plan.ts';
import { withShortLock } from './short-lock.ts';
import type { OpsSession } from './session.ts';
import { throwIfStopped } from './session.ts';
import { readTables, type TableState } from './source-state.ts';
import { commentIdentityIndex, createIdentityIndex, dropIdentityIndex, ownIdentity, setReplicaIdentity } from './sql.ts';
import type { StepReport } from './step.ts';

export interface IdentityOptions {
  readonly schema: string;
  /** How long to try for each short lock, in milliseconds. */
  readonly waitMs: number;
}

/** Brings one table to a replica identity with id, tenant_id and created_at; looks first, so it can be run at any time. */
export async function ensureIdentity(session: OpsSession, { schema, waitMs }: IdentityOptions, state: TableState): Promise<StepReport[]> {
  const steps = identitySteps(state);
  if (steps.length === 0) return [{ step: 'identity', subject: state.table, did: 'already', detail: describeIdentity(state) }];
  const reports: StepReport[] = [];
  for (const step of steps) {
    throwIfStopped(session.signal);
    const report = await runStep(session, { schema, waitMs }, state, step);
    if (report) reports.push(report);
  }
  return reports;
}

async function runStep(session: OpsSession, { schema, waitMs }: IdentityOptions, state: TableState, step: IdentityStep): Promise<StepReport | null> {
  const { table, oid } = state;
  const { work, patiently } = session;
  switch (step.do) {
    case 'rescue':
      await withShortLock(session, { what: `replica identity of ${table}`, table: oid, statements: setReplicaIdentity(schema, table, step.to), waitMs });
      return { step: 'identity', subject: table, did: 'done', detail: `set back to ${step.to.kind}, since the index was not usable` };
    case 'drop-index':
      await patiently(`dropping the unusable index of ${table}`, () => work.query(dropIdentityIndex(schema, table)));
      return { step: 'index', subject: table, did: 'done', detail: 'an unusable index was dropped' };
    case 'create-index':
      session.say(`identity index of ${table}: building; Dify goes on meanwhile`);
      await patiently(`identity index of ${table}`, () => work.query(createIdentityIndex(schema, table)));
      return null;
    case 'comment':
      await work.query(commentIdentityIndex(schema, table, step.former));
      await provenUsable(session, schema, state);
      crashPoint('setup.index-created');
      return { step: 'index', subject: table, did: 'done', detail: 'on (id, tenant_id, created_at)' };
    case 'set-identity':
      await provenUsable(session, schema, state);
      await withShortLock(session, { what: `replica identity of ${table}`, table: oid, statements: setReplicaIdentity(schema, table, ownIdentity(table)), waitMs });
      crashPoint('setup.identity-set');
      return { step: 'identity', subject: table, did: 'done', detail: 'the identity index' };
    default:
      return step satisfies never;
  }
}

/** PostgreSQL 15 and 18 accept an invalid index as replica identity; from then on no UPDATE of Dify succeeds. */
async function provenUsable({ work }: OpsSession, schema: string, { table }: TableState): Promise<void> {
  const now = (await readTables(work, schema)).find((state) => state.table === table);
  if (!now?.ownIndex?.usable || !now.ownIndex.covers) throw new DifyEsError('SETUP_BLOCKED', `the identity index of ${table} is not valid after its build`);
}

export function describeIdentity({ identity }: TableState): string {
  return identity.kind === 'index' ? `index ${identity.index.name}` : identity.kind;
}
