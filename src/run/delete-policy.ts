import { DifyEsError } from '../core/errors.ts';
import { stateKeys, type ControlLog, type DeletePolicyRecord } from '../core/state.ts';

/** By the reader, once the slot is its own: what it does with a DELETE from here on. With Kafka lost it says so again. */
export async function recordDeletePolicy(control: Pick<ControlLog, 'get' | 'put'>, policy: DeletePolicyRecord['policy']): Promise<void> {
  if (control.get<DeletePolicyRecord>(stateKeys.deletePolicy)?.policy === policy) return;
  await control.put(stateKeys.deletePolicy, { policy, at: new Date().toISOString() } satisfies DeletePolicyRecord);
}

/**
 * Throws CONFIG_INVALID where this process would judge deletes otherwise than the reader does: run from a shell that
 * lacks DELETE_POLICY=ignore, `validate --delete-extra` would take the very history that the policy keeps.
 */
export function requireSameDeletePolicy(control: Pick<ControlLog, 'get'>, policy: DeletePolicyRecord['policy']): void {
  const recorded = control.get<DeletePolicyRecord>(stateKeys.deletePolicy)?.policy ?? policy;
  if (recorded !== policy) throw new DifyEsError('CONFIG_INVALID', `DELETE_POLICY is ${policy} here, but the stream runs with ${recorded}: give both the same, and restart the stream where it is to change`);
}
