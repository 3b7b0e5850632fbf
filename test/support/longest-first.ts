import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * The end-to-end files by the time they take, longest first: with two at a time the last one to begin should be short.
 * vitest knows that by itself only from an earlier run, which a fresh clone has not had.
 */
export const LONGEST: readonly string[] = [
  'proof/crash-points', 'proof/workload', 'proof/kafka-lost', 'proof/several', 'cutover/cutover', 'cleanup-pg/cleanup', 'proof/memory', 'validate/live', 'validate/validate', 'proof/lies', 'proof/zombies', 'setup/setup',
  'proof/source-lost', 'dead-letters/dlq', 'docs-commands', 'replay/replay', 'proof/truncate', 'proof/relaxed', 'proof/path', 'proof/wal-budget', 'telemetry/telemetry', 'cleanup-pg/kills',
  'proof/lying-kafka', 'proof/source-outgrown', 'proof/adjacent-commits', 'validate/surplus',
];

const placeOf = ({ moduleId }: TestSpecification): number => {
  const place = LONGEST.findIndex((name) => moduleId.endsWith(`/${name}.e2e.test.ts`));
  return place < 0 ? LONGEST.length : place;
};

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const tier = sorted.filter(({ project }) => project.name === 'e2e').sort((a, b) => placeOf(a) - placeOf(b));
    return sorted.map((file) => (file.project.name === 'e2e' ? tier.shift()! : file));
  }
}
