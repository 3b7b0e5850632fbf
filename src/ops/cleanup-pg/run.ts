import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import { CONNECTORS } from '../../connector/registry.ts';
import { TABLES, type TableName } from '../../core/contracts.ts';
import { crashPoint } from '../../core/crash-point.ts';
import { DifyEsError } from '../../core/errors.ts';
import { stateKeys, type ArchivedRecord, type CleanupRun, type ControlLog, type SwitchedRecord } from '../../core/state.ts';
import { Documents } from '../validate/documents.ts';
import { boundariesFrom } from '../validate/expectations.ts';
import { expectedDocuments } from '../validate/expected.ts';
import { Source } from '../validate/source.ts';
import { allRequired, allRuns } from '../../pipeline/backfill/run-record.ts';
import { connect } from '../../pipeline/capture/pg-connection.ts';
import { openDeadLetters, type DeadLetters } from '../../pipeline/kafka/dead-letters.ts';
import { esError } from '../../pipeline/sink/elastic-errors.ts';
import { tenantPattern } from '../../pipeline/sink/index-name.ts';
import { pgTarget } from '../../run/connections.ts';
import { openDrainer } from '../../run/drain.ts';
import { requireOwnSource } from '../../run/own-source.ts';
import type { Platform } from '../../run/platform.ts';
import type { Scope } from './candidates.ts';
import { cleanUp, type CleanupPace } from './cleanup.ts';
import { Deleter } from './deleter.ts';
import { requireAlone, requireDeleteRights } from './preflight.ts';
import { archivedBoundary, refusal, runsToClose, runToResume } from './records.ts';
import type { CleanupReport, TableCounts } from './report.ts';

export interface CleanupOptions {
  readonly scope: Scope;
  readonly pace: CleanupPace;
  readonly dryRun: boolean;
  /** Also where another installation's documents go with the rows. */
  readonly force: boolean;
  readonly signal: AbortSignal;
  readonly onProgress: (counts: TableCounts) => void;
}

/** cleanup-pg, wired. Throws CLEANUP_REFUSED, PG_RIGHTS, NOT_DRAINED, STOPPED; run it again to go on. */
export async function runCleanup(config: Config, platform: Platform, options: CleanupOptions, log: Logger): Promise<CleanupReport> {
  const { scope, pace, dryRun, force, signal, onProgress } = options;
  const { control } = platform.state;
  const { schema, publication, deletePolicy } = config.postgres;
  const prefix = config.elasticsearch.indexPrefix;
  await requireOwnSource(config);
  const opened: { close(): Promise<unknown> }[] = [];
  const keep = <T extends { close(): Promise<unknown> }>(part: T): T => (opened.push(part), part);
  try {
    // The lock before the look at the records: a backfill takes it before it writes its own.
    const deleter = dryRun ? null : keep(await Deleter.open(pgTarget(config), schema));
    await control.refresh();
    const refused = refusal(allRuns(control), allRequired(control));
    if (refused) throw new DifyEsError('CLEANUP_REFUSED', refused);

    const [scanning, lookup] = [await connect(pgTarget(config), { role: 'cleanup-pg' }), await connect(pgTarget(config), { role: 'cleanup-pg' })];
    opened.push({ close: () => scanning.end() }, { close: () => lookup.end() });
    if (!force) await requireAlone(lookup, { schema, publication });
    await requireDeleteRights(lookup, schema);

    const drainer = keep(await openDrainer(config, platform, log, signal));
    const letters = keep(await openDeadLetters(platform.kafka, platform.names, control));

    const runId = deleter && (await announce(control, scope));
    if (runId) log.info({ runId }, 'announced');
    const tables = await cleanUp(
      {
        source: new Source({ scanning, lookup }, schema), schema, documents: new Documents(platform.client, prefix, signal),
        known: boundariesFrom(control, { prefix, deletePolicy, accepted: new Set() }), expectedText: expectedDocuments(),
        deletion: deleter && runId ? { deleter, runId } : null,
        drain: () => drainer.drain(),
        deadLettered: (table, ids) => unsettled(control, letters, table, ids),
        signal, onProgress,
      },
      scope, pace,
    );
    if (runId) {
      // Until the reader has passed our transactions the announcement is what keeps their documents.
      await drainer.drain();
      for (const run of runsToClose(cleanups(control), scope)) await control.put(stateKeys.cleanup(run.runId), { ...run, state: 'done' } satisfies CleanupRun);
      crashPoint('cleanup.recorded');
    }
    return { runId, ...scope, dryRun, switched: control.get<SwitchedRecord>(stateKeys.switched(scope.tenantId)) !== undefined, tables };
  } finally {
    await Promise.allSettled(opened.map((part) => part.close()));
  }
}

/**
 * First what keeps the documents (the archived boundary keeps them from `validate --delete-extra`, the run's record from
 * the reader's tombstones), then the first delete. Both are acknowledged when this returns, and the reader looks at the
 * end of the control topic before it judges a marked transaction, so it has seen what was announced before.
 */
async function announce(control: ControlLog, scope: Scope): Promise<string> {
  const at = new Date().toISOString();
  for (const table of TABLES) {
    const key = stateKeys.archived(scope.tenantId, table);
    const known = control.get<ArchivedRecord>(key);
    const before = archivedBoundary(known?.before, scope.before);
    if (known?.before !== before) await control.put(key, { tenantId: scope.tenantId, table, before, at } satisfies ArchivedRecord);
  }
  const run = runToResume(cleanups(control), scope) ?? ({ runId: randomUUID(), state: 'open', tenantId: scope.tenantId, before: scope.before, at } satisfies CleanupRun);
  await control.put(stateKeys.cleanup(run.runId), run);
  crashPoint('cleanup.announced');
  return run.runId;
}

function cleanups(control: ControlLog): CleanupRun[] {
  return control.entries<CleanupRun>(stateKeys.cleanup('')).map(([, run]) => run);
}

async function unsettled(control: ControlLog, letters: DeadLetters, table: TableName, ids: ReadonlySet<string>): Promise<Set<string>> {
  await control.refresh();
  const found = new Set<string>();
  for await (const slice of letters.letters()) {
    for (const letter of slice) if (letter.state !== 'redriven' && letter.table === table && letter.key && ids.has(letter.key.id)) found.add(letter.key.id);
  }
  return found;
}

/** The tenant's indices, and those of them that a lost node would take away. */
export async function replicasOf(config: Config, { client }: Platform, tenantId: string): Promise<{ indices: number; withoutReplica: number }> {
  let indices = 0;
  let withoutReplica = 0;
  for (const connector of Object.values(CONNECTORS)) {
    const path = `/_cat/indices/${tenantPattern(config.elasticsearch.indexPrefix, connector, tenantId)}`;
    try {
      const lines = await client.transport.request<{ rep: string | null }[]>({ method: 'GET', path, querystring: { format: 'json', h: 'rep', expand_wildcards: 'open' } });
      indices += lines.length;
      withoutReplica += lines.filter(({ rep }) => Number(rep ?? 0) === 0).length;
    } catch (error) {
      throw esError(error);
    }
  }
  return { indices, withoutReplica };
}
