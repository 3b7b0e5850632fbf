import { crashPoint } from '../../core/crash-point.ts';
import { DifyEsError } from '../../core/errors.ts';
import { formatLsn } from '../../core/lsn.ts';
import { createSlot, dropSlot, inspectSlot, type SlotState } from '../../pipeline/capture/slot.ts';
import type { SourceState } from './fitness.ts';
import type { OpsSession } from './session.ts';
import type { StepReport } from './step.ts';

/** A slot whose WAL is gone: PostgreSQL never lets it be read again. */
export function isLost(slot: SlotState): boolean {
  return slot.walStatus === 'lost' || slot.invalidation !== null;
}

/**
 * Why a slot that exists can only be thrown away, or null.
 *
 * Without its publication: pgoutput looks the publication up as it was at each position of the log, so a publication
 * made after the slot does not exist for what the slot still has to read.
 */
export function slotToDrop({ slot, publication }: Pick<SourceState, 'slot' | 'publication'>): string | null {
  if (!slot) return null;
  if (isLost(slot)) return 'PostgreSQL dropped WAL that it needed';
  return publication ? null : 'its publication is gone, and with it what was to be read';
}

/** Before the publication is made, so that a kill in between does not leave a publication that looks older than its slot. */
export async function dropUselessSlot(session: OpsSession, state: SourceState): Promise<StepReport[]> {
  const why = slotToDrop(state);
  if (why === null) return [];
  requireIdle(state.slot!, 'it has to be made anew');
  await dropSlot(session.work, state.slot!.name);
  crashPoint('setup.slot-dropped');
  return [{ step: 'slot', subject: state.slot!.name, did: 'done', detail: `dropped, since ${why}` }];
}

/** A slot that a reader holds cannot be dropped; PostgreSQL would answer with an error half-way. */
export function requireIdle(slot: SlotState, because: string): void {
  if (slot.activePid !== null) throw new DifyEsError('PG_SLOT_BUSY', `slot ${slot.name} is read by pid ${slot.activePid}, and ${because}`);
}

export async function ensureSlot({ work, patiently }: OpsSession, name: string): Promise<StepReport> {
  const found = await inspectSlot(work, name);
  if (found) return { step: 'slot', subject: name, did: 'already', detail: found.activePid === null ? '' : 'a reader is connected' };
  // PostgreSQL begins a slot where no older transaction is open any more, and waits for those there are
  const lsn = await patiently(`slot ${name}`, () => createSlot(work, name));
  crashPoint('setup.slot-created');
  return { step: 'slot', subject: name, did: 'done', detail: `created at ${formatLsn(lsn)}; from now on the server keeps WAL for it` };
}
