import { pino } from 'pino';
import { type BackfillMember, type SegmentProgress, stateKeys } from '../../src/core/state.ts';
import { createKafka } from '../../src/pipeline/kafka/client.ts';
import { openControlLog } from '../../src/pipeline/kafka/control-log.ts';
import { topicNames } from '../../src/pipeline/kafka/topics.ts';
import { until } from './pipeline.ts';
import type { Program } from './program.ts';

/** What the control topic says of each migrate that runs. */
export interface Migrates {
  /** Resolves when the process is in the middle of a range: some of its rows are published, others are not. Rejects when it ends before. */
  inMidRange(program: Program): Promise<void>;
  close(): Promise<void>;
}

export async function openMigrates(here: { readonly brokers: readonly string[]; readonly topicPrefix: string }): Promise<Migrates> {
  const silent = pino({ level: 'silent' });
  const control = await openControlLog({ kafka: createKafka({ brokers: here.brokers, clientId: 'test' }, silent), topic: topicNames(here.topicPrefix).control, logger: silent });
  return {
    async inMidRange(program) {
      await program.said('run is open');
      const { runId, memberId } = JSON.parse(program.stderr.find((line) => line.includes('run is open'))!) as BackfillMember;
      await until('it is in the middle of a range', () => {
        if (!program.isRunning()) throw new Error(program.describe());
        const held = control.get<BackfillMember>(stateKeys.member(runId, memberId))?.segments ?? [];
        return held.some((segment) => {
          const progress = control.get<SegmentProgress>(stateKeys.segments(runId) + segment);
          return progress !== undefined && progress.rows > 0 && !progress.done;
        });
      });
    },
    close: () => control.close(),
  };
}
