import { ERRORS } from '../core/errors.ts';
import type { Part } from '../ops/status/part.ts';
import { readStatus, type Status } from '../ops/status/status.ts';
import { tenantIds } from './flags.ts';
import { printStatus } from './status-text.ts';
import { defineVerb, type Answer } from './verb.ts';

interface StatusFlags {
  readonly tenantId: string | null;
}

export const status = defineVerb<StatusFlags>({
  name: 'status',
  summary: 'where everything stands: servers, slot, lag, backfill, dead letters, indices',
  writes: false,
  declare: (command) => command.option('--tenant-id <uuid>', 'only the indices and records of this tenant'),
  read(flags, faults) {
    const tenants = tenantIds(flags, faults);
    if (tenants.length > 1) faults.push('--tenant-id takes one tenant here');
    return { tenantId: tenants[0] ?? null };
  },
  async run({ config, out, log }, { tenantId }) {
    const found = await readStatus(config, tenantId, log);
    printStatus(found, out);
    out.result(found);
    return answerOf(found);
  },
});

/** 3 when a server could not be reached, 1 when a part could not be read otherwise: the others have been shown. */
export function answerOf(status: Status): Answer {
  const parts: readonly Part<unknown>[] = Object.values(status);
  const exits = parts.flatMap((part) => (part.ok ? [] : [ERRORS[part.code].exit]));
  return exits.includes(3) ? 3 : exits.length > 0 ? 1 : 0;
}
