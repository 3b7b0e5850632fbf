/** What one step of setup or teardown did. `already`: it was so before; `kept`: left alone on purpose. */
export interface StepReport {
  readonly step: 'index' | 'identity' | 'publication' | 'slot' | 'topics' | 'records' | 'templates' | 'group';
  readonly subject: string;
  readonly did: 'done' | 'already' | 'kept';
  readonly detail: string;
}

/** `index       workflow_runs: on (id, tenant_id, created_at)`, as setup and teardown print it. */
export function describeStep({ step, subject, did, detail }: StepReport): string {
  const said = { done: detail, already: `already so${detail ? ` (${detail})` : ''}`, kept: `kept: ${detail}` }[did];
  return `${step.padEnd(11)} ${subject}: ${said}`;
}
