import { applicationName } from '../../../pipeline/capture/pg-connection.ts';
import { countsAsStandby } from '../../../pipeline/capture/sync-standby.ts';
import { OLDEST_VERSION, unfitServer } from '../../setup/fitness.ts';
import type { ServerFacts } from '../../setup/server-facts.ts';
import { fail, ok, warn, type Finding } from '../finding.ts';

/** The newest major version that this program was run against. */
const NEWEST_TESTED = 180_000;

export function serverFindings(facts: ServerFacts): Finding[] {
  return [version(facts), ...otherFaults(facts), walLevel(facts), senderTimeout(facts), syncStandby(facts)];
}

function version({ version: number, versionText }: ServerFacts): Finding {
  if (number < OLDEST_VERSION) return fail('version', `PostgreSQL ${versionText}`, 'Upgrade to 14 or later, which has logical messages.');
  if (number >= NEWEST_TESTED + 10_000) return warn('version', `PostgreSQL ${versionText} is newer than what this program was tested with`, 'Try it on a copy first.');
  return ok('version', `PostgreSQL ${versionText}`);
}

/** A standby, another encoding; the version has a line of its own. */
function otherFaults(facts: ServerFacts): Finding[] {
  return unfitServer({ ...facts, version: OLDEST_VERSION }).map((line) => fail('server', line, 'Connect to the primary, to a database in UTF8.'));
}

function walLevel({ walLevel: level }: ServerFacts): Finding {
  if (level === 'logical') return ok('wal_level', 'logical');
  return fail('wal_level', `${level}, and logical replication needs logical`, 'ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL once.');
}

function senderTimeout({ walSenderTimeoutMs: ms }: ServerFacts): Finding {
  if (ms === 0) return warn('wal_sender_timeout', 'off: the server does not notice a reader that vanished, and its successor has to wait for the slot', "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();");
  if (ms < 10_000) return warn('wal_sender_timeout', `${ms} ms is short for a reader that waits for Kafka`, "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();");
  return ok('wal_sender_timeout', `${ms / 1000} s`);
}

function syncStandby({ synchronousStandbyNames: names }: ServerFacts): Finding {
  if (countsAsStandby(names, applicationName('stream'))) {
    return fail('synchronous_standby_names', `'${names}' counts the reader as a synchronous standby: Dify's COMMIT would wait for it for ever`, 'Name the real standbys in synchronous_standby_names.');
  }
  return ok('synchronous_standby_names', names === '' ? 'empty' : `'${names}' does not count the reader`);
}

/** Slots and senders that are free for ours; `held`: how many of them are ours already. */
export function headroomFindings(facts: ServerFacts, held: { readonly slot: boolean; readonly sender: boolean }): Finding[] {
  const room = (subject: string, limit: number, used: number, mine: boolean): Finding => {
    const free = limit - used + (mine ? 1 : 0);
    if (free < 1) return fail(subject, `all ${limit} are in use`, `ALTER SYSTEM SET ${subject} = ${limit + 5}; then restart PostgreSQL once.`);
    return ok(subject, `${used} of ${limit} in use`);
  };
  return [room('max_replication_slots', facts.maxReplicationSlots, facts.slotsUsed, held.slot), room('max_wal_senders', facts.maxWalSenders, facts.walSendersUsed, held.sender)];
}
