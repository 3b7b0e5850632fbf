import { appendFileSync } from 'node:fs';

/**
 * The named moments at which a test ends this process with SIGKILL: before and after each step that another process or
 * the next start can see. `npm test` kills at every one of them and compares both ends afterwards.
 */
export const CRASH_POINTS = [
  'backfill.chunk-read', 'backfill.produce-sent', 'backfill.produce-acknowledged', 'backfill.reread',
  'backfill.transaction-committed', 'backfill.progress-saved', 'backfill.run-recorded', 'backfill.required-cleared', 'backfill.run-closed',
  'backfill.segments-claimed', 'backfill.member-marked', 'backfill.member-fenced',
  'stream.epoch-before', 'stream.epoch-recorded', 'stream.produce-sent', 'stream.produce-acknowledged',
  'stream.transaction-committed', 'stream.high-water-recorded', 'stream.slot-confirmed',
  'stream.truncate-published', 'stream.truncate-recorded', 'stream.slot-loss-recorded',
  'sink.bulk-sent', 'sink.bulk-answered', 'sink.offset-committed', 'sink.dead-letter-sent', 'sink.relaxed-index-made', 'sink.relaxed-put-back',
  'setup.slot-dropped', 'setup.index-created', 'setup.identity-set', 'setup.publication-created', 'setup.slot-created', 'setup.topics-created',
  'setup.layout-pinned', 'setup.required-recorded', 'setup.published-recorded', 'setup.epoch-recorded', 'setup.templates-put',
  'teardown.publication-dropped', 'teardown.slot-dropped', 'teardown.identity-restored', 'teardown.index-dropped',
  'teardown.topics-deleted', 'teardown.group-deleted', 'teardown.templates-removed',
  'cleanup.compared', 'cleanup.drained', 'cleanup.announced', 'cleanup.deleted', 'cleanup.recorded',
] as const;
export type CrashPoint = (typeof CRASH_POINTS)[number];

/** `name` or `name:3` (the third time the point is passed). Nothing else in the product reads this variable. */
const [target, nth] = (process.env['DIFY_ES_CRASH_AT'] ?? '').split(':');
const witness = process.env['DIFY_ES_CRASH_WITNESS'];
let passed = 0;

/**
 * Ends the process here when a test asked for it. The line in the witness file lets the test see from outside that the
 * point was reached; SIGKILL, because an exit would run handlers that a power cut does not run.
 */
export function crashPoint(name: CrashPoint): void {
  if (name !== target || ++passed < Number(nth ?? 1)) return;
  if (witness) appendFileSync(witness, `${name}\n`);
  process.kill(process.pid, 'SIGKILL');
}
