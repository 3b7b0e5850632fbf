import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import { DifyEsError } from '../core/errors.ts';
import { formatLsn, type Lsn } from '../core/lsn.ts';
import { versionOfCommit, type RowVersion } from '../core/row-version.ts';
import { drain, type DrainOptions, type DrainState, type GroupProgress } from '../ops/drain.ts';
import { connect } from '../pipeline/capture/pg-connection.ts';
import { inspectSlot } from '../pipeline/capture/slot.ts';
import { openGroupLag, type Ends, type GroupLag } from '../pipeline/kafka/group-lag.ts';
import { withAdmin } from '../pipeline/kafka/topics.ts';
import { pgTarget } from './connections.ts';
import type { Platform } from './platform.ts';

/** The drain point, wired: for whoever compares both ends, or deletes on one of them. */
export interface Drainer {
  /**
   * Returns when everything visible at the call is settled in Elasticsearch: the LSN that was taken then, and the version
   * of a commit at it. Throws NOT_DRAINED with what keeps it.
   */
  drain(): Promise<{ readonly lsn: Lsn; readonly version: RowVersion }>;
  close(): Promise<void>;
}

const LIMITS = { stallMs: 60_000, unattendedMs: 15_000 } as const;
const SAY_EVERY_MS = 10_000;

export async function openDrainer(config: Config, platform: Platform, log: Logger, signal: AbortSignal, limits: Pick<DrainOptions, 'stallMs' | 'unattendedMs'> = LIMITS): Promise<Drainer> {
  const { kafka, names, state } = platform;
  const lag = await openGroupLag(kafka, names, config.kafka.group);
  const db = await connect(pgTarget(config), { role: 'drain', statementTimeoutMs: 30_000 }).catch(async (error: unknown) => {
    await lag.close();
    throw error;
  });
  const group = groupProgress(lag, async () => {
    const answer = await withAdmin(kafka, 'look at the consumer group', (admin) => admin.describeGroups([config.kafka.group]));
    return answer.groups[0]?.members.length ?? 0;
  });
  let said = performance.now();
  const onState = ({ waitsFor, left }: DrainState): void => {
    if (performance.now() - said < SAY_EVERY_MS) return;
    said = performance.now();
    log.info({ waitsFor, left: String(left) }, waitsFor === 'reader' ? 'waiting for the reader to publish the WAL up to now' : 'waiting for the sinks to settle what is in Kafka');
  };
  return {
    async drain() {
      const lsn = await drain({ db, slot: () => inspectSlot(db, config.postgres.slot), group }, { ...limits, signal, onState });
      const epoch = (await state.readEpoch())?.epoch;
      if (epoch === undefined) throw new DifyEsError('NOT_DRAINED', 'no reader has ever read the slot');
      log.debug({ lsn: formatLsn(lsn) }, 'drained');
      return { lsn, version: versionOfCommit(epoch, lsn) };
    },
    async close() {
      await Promise.allSettled([lag.close(), db.end()]);
    },
  };
}

function groupProgress(lag: GroupLag, members: () => Promise<number>): GroupProgress<Ends> {
  return {
    ends: () => lag.endOffsets(),
    members,
    async left(ends) {
      if (await lag.isDrainedTo(ends)) return 0n;
      let behind = 0n;
      for (const partition of await lag.lag()) {
        const end = ends.get(`${partition.table}/${partition.partition}`) ?? 0n;
        const from = partition.end - partition.behind;
        if (end > from) behind += end - from;
      }
      return behind > 0n ? behind : 1n;
    },
  };
}
