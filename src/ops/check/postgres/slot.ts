import type { SlotState } from '../../../pipeline/capture/slot.ts';
import { unfitSlot, type SourceNames } from '../../setup/fitness.ts';
import type { ServerFacts } from '../../setup/server-facts.ts';
import { isLost } from '../../setup/slot-step.ts';
import { judgeWal } from '../../watch/wal-budget.ts';
import { fail, ok, size, warn, type Finding } from '../finding.ts';

export interface SlotFacts {
  readonly slot: SlotState | null;
  /** WAL it holds back; null when it is lost or there is none. */
  readonly retainedBytes: number | null;
  /** WAL_BUDGET; 0: none. */
  readonly budgetBytes: number;
}

const LIMIT_IT = "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();";

export function slotFindings({ slot, retainedBytes, budgetBytes }: SlotFacts, server: ServerFacts, names: SourceNames, isSetUp: boolean): Finding[] {
  const findings = [state(slot, names, isSetUp), retained(retainedBytes, budgetBytes, server)];
  if (server.idleSlotTimeoutSeconds > 0) {
    findings.push(warn('idle_replication_slot_timeout', `the server gives the slot up when the reader is away for ${server.idleSlotTimeoutSeconds / 60} min`, 'Keep the reader running, or ALTER SYSTEM RESET idle_replication_slot_timeout.'));
  }
  return findings;
}

function state(slot: SlotState | null, names: SourceNames, isSetUp: boolean): Finding {
  if (!slot) return (isSetUp ? fail : warn)('slot', `there is no slot ${names.slot}`, isSetUp ? 'Run dify-es setup, and then a full migrate, since changes may be missing.' : 'Run dify-es setup.');
  const unfit = unfitSlot(slot, names)[0];
  if (unfit !== undefined) return fail('slot', unfit, 'Choose another CDC_SLOT.');
  if (isLost(slot)) return fail('slot', `${slot.name} is lost${slot.invalidation === null ? '' : ` (${slot.invalidation})`}: PostgreSQL dropped WAL that it needed`, 'Run dify-es setup, and then a full migrate.');
  if (slot.walStatus === 'unreserved') return fail('slot', `${slot.name} may be lost at the next checkpoint`, 'Start dify-es stream at once, or raise max_slot_wal_keep_size.');
  if (slot.activePid === null) return warn('slot', `${slot.name} is there and nobody reads it: the server keeps WAL for it`, 'Start dify-es stream (or run).');
  return ok('slot', `${slot.name} is read by pid ${slot.activePid}`);
}

/**
 * Fails where nothing at all keeps a forgotten slot from filling the disk of Dify's database, and warns where WAL_BUDGET
 * alone does: it is the reader that acts on it, and the slot is forgotten when there is none.
 */
function retained(retainedBytes: number | null, budgetBytes: number, { maxSlotWalKeepBytes }: ServerFacts): Finding {
  const limits = { serverBytes: maxSlotWalKeepBytes < 0 ? null : maxSlotWalKeepBytes, budgetBytes: budgetBytes > 0 ? budgetBytes : null };
  const { level, limitBytes, share } = judgeWal([{ atMs: 0, retainedBytes: retainedBytes ?? 0 }], limits);
  const held = `${size(retainedBytes ?? 0)} held back`;
  if (level === 'unlimited') return fail('WAL limit', `${held}; max_slot_wal_keep_size and WAL_BUDGET are both unlimited, so a reader that stays away fills the disk`, LIMIT_IT);
  const message = `${held}, ${Math.round((share ?? 0) * 100)} % of the ${size(limitBytes ?? 0)} allowed`;
  if (level === 'past') return fail('WAL limit', message, 'See that dify-es stream runs and keeps up.');
  if (level === 'near') return warn('WAL limit', message, 'See that dify-es stream runs and keeps up.');
  return limits.serverBytes === null ? warn('WAL limit', `${message} by WAL_BUDGET, which holds only while a reader runs: one that stays away fills the disk`, LIMIT_IT) : ok('WAL limit', message);
}
