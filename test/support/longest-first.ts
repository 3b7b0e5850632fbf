import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * The end-to-end files by the time they take, longest first: with two at a time the last one to begin should be short.
 * vitest knows that by itself only from an earlier run, which a fresh clone has not had.
 */
export const LONGEST: readonly string[] = [
  'proof/crash-points', 'validate/live', 'validate/validate', 'dead-letters/dlq', 'proof/workload', 'cutover/cutover', 'proof/lies', 'proof/lying-kafka', 'cleanup-pg/kills',
  'cleanup-pg/cleanup', 'proof/wal-budget', 'proof/zombies', 'setup/setup', 'docs-commands', 'replay/replay', 'proof/source-lost', 'proof/memory', 'proof/path', 'proof/kafka-lost', 'telemetry/telemetry',
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
