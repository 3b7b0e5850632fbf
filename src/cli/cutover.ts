import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { requireEnabled, type Config } from '../config/config.ts';
import { DifyEsError } from '../core/errors.ts';
import { stateKeys } from '../core/state.ts';
import { confirmLines, revertLine } from '../ops/cutover/answers.ts';
import { assess, type Assessment } from '../ops/cutover/assess.ts';
import { confirmSwitch, revertSwitch } from '../ops/cutover/confirm.ts';
import { prepareTenant } from '../ops/cutover/elastic.ts';
import { allReady, DIFY_SETTINGS, settingsLines } from '../ops/cutover/settings.ts';
import { listTenants, unknownTenants } from '../ops/cutover/tenants.ts';
import { openPlatform, type Platform } from '../run/platform.ts';
import { templateSettings } from '../run/sink.ts';
import { tenantIds, wholeNumber } from './flags.ts';
import { formatCount } from './format.ts';
import { defineVerb, type Answer, type VerbContext } from './verb.ts';

type Mode = 'assess' | 'confirm' | 'revert' | 'all';

interface CutoverFlags {
  readonly mode: Mode;
  readonly tenantIds: readonly string[];
  readonly wait: boolean;
  readonly prepare: boolean;
  readonly force: boolean;
  readonly quietMs: number;
  readonly limitMs: number;
}

const QUIET_S = 30;
const LIMIT_MIN = 15;
const LOOK_AGAIN_MS = 10_000;

export const cutover = defineVerb<CutoverFlags>({
  name: 'cutover',
  summary: 'says whether a tenant can be switched, and why not; --confirm records that Elasticsearch is its truth',
  writes: false,
  declare: (command) =>
    command
      .option('--tenant-id <uuid...>', 'these tenants, comma separated')
      .option('--all', 'the table of tenants')
      .option('--prepare', 'set the refresh interval of the tenant to 1s first, for indices to come too')
      .option('--wait', 'look again until it is ready')
      .option('--confirm', 'after the restart of Dify: wait for silence and the drain point, then record the switch')
      .option('--quiet <seconds>', `with --confirm: how long PostgreSQL must not have been written (default ${QUIET_S})`)
      .option('--limit <minutes>', `with --confirm: how long to wait for that (default ${LIMIT_MIN})`)
      .option('--revert', 'take the switch back, if nothing was written to Elasticsearch alone')
      .option('--force', 'with --revert: take it back all the same'),
  read(flags, faults) {
    const tenants = tenantIds(flags, faults);
    const modes = (['confirm', 'revert', 'all'] as const).filter((mode) => flags[mode] === true);
    if (modes.length > 1) faults.push(`--${modes.join(' and --')} exclude each other`);
    const mode = modes[0] ?? 'assess';
    if (mode === 'all' ? tenants.length > 0 : tenants.length === 0 && flags['tenantId'] === undefined) faults.push(mode === 'all' ? '--all takes no --tenant-id' : '--tenant-id is missing (or --all)');
    for (const flag of ['wait', 'prepare'] as const) if (flags[flag] === true && mode !== 'assess') faults.push(`--${flag} does not go with --${mode}`);
    if (flags['force'] === true && mode !== 'revert') faults.push('--force goes with --revert');
    const quiet = wholeNumber(flags, faults, 'quiet', '--quiet', 1, 3600);
    const limit = wholeNumber(flags, faults, 'limit', '--limit', 1, 10_080);
    if ((quiet !== undefined || limit !== undefined) && mode !== 'confirm') faults.push('--quiet and --limit go with --confirm');
    return {
      mode, tenantIds: tenants, wait: flags['wait'] === true, prepare: flags['prepare'] === true, force: flags['force'] === true,
      quietMs: (quiet ?? QUIET_S) * 1000, limitMs: (limit ?? LIMIT_MIN) * 60_000,
    };
  },
  async run(context, flags) {
    const { config, log, signal } = context;
    if (flags.mode !== 'all') requireEnabled(config);
    const platform = await openPlatform(config, log);
    try {
      return await MODES[flags.mode](context, platform, flags);
    } catch (error) {
      if (signal.aborted) throw new DifyEsError('STOPPED', 'stopped before there was an answer');
      throw error;
    } finally {
      await platform.close();
    }
  },
});

const MODES: Readonly<Record<Mode, (context: VerbContext, platform: Platform, flags: CutoverFlags) => Promise<Answer>>> = {
  async assess({ config, out, log, signal }, platform, { tenantIds: tenants, wait, prepare }) {
    // before --prepare, which would put templates for an id that was mistyped
    await requireKnown(config, platform, tenants, signal);
    const everyTenant = (await listTenants(config, platform)).map(({ tenantId }) => tenantId);
    const answers: (Assessment & { switched: boolean })[] = [];
    for (const tenantId of tenants) {
      if (platform.state.control.get(stateKeys.switched(tenantId)) !== undefined) {
        out.line(`${tenantId}: switched already`);
        answers.push({ tenantId, ready: true, findings: [], lsn: null, switched: true });
        continue;
      }
      if (prepare) {
        const { indices, templates } = await prepareTenant(platform.client, tenantId, templateSettings(config));
        out.line(`${tenantId}: refresh interval set for ${indices.length} indices, ${templates.length} templates put`);
      }
      const answer = await look(config, platform, tenantId, everyTenant, wait, log, signal);
      answers.push({ ...answer, switched: false });
      out.line(`${tenantId}: ${answer.ready ? 'ready' : 'not ready'}`);
      for (const { level, subject, message, cure } of answer.findings) {
        out.line(`  ${level === 'fail' ? 'no  ' : level === 'warn' ? 'WARN' : 'yes '}  ${subject}: ${message}`);
        if (cure !== null) out.line(`        → ${cure}`);
      }
    }
    const all = await listTenants(config, platform);
    for (const line of settingsLines(all)) out.line(line);
    const ready = allReady(all);
    out.result({ tenants: answers, allReady: ready, settings: ready ? DIFY_SETTINGS : null });
    return answers.every(({ ready }) => ready) ? 0 : 1;
  },

  async confirm({ config, out, log, signal }, platform, { tenantIds: tenants, quietMs, limitMs }) {
    const answer = await confirmSwitch(config, platform, { tenantIds: tenants, quietMs, limitMs, signal }, log);
    for (const line of confirmLines(answer)) out.line(line);
    out.result(answer);
    return answer.writtenMeanwhile ? 1 : 0;
  },

  async revert({ config, out, log, signal }, platform, { tenantIds: tenants, force }) {
    // a switched one may have lost everything since
    await requireKnown(config, platform, tenants.filter((tenantId) => platform.state.control.get(stateKeys.switched(tenantId)) === undefined), signal);
    const answers = [];
    for (const tenantId of tenants) {
      const answer = await revertSwitch(config, platform, tenantId, force, log, signal);
      answers.push({ tenantId, ...answer });
      out.line(revertLine(tenantId, answer));
    }
    out.result({ tenants: answers });
    return answers.every(({ done }) => done) ? 0 : 1;
  },

  async all({ config, out }, platform) {
    const tenants = await listTenants(config, platform);
    out.table(['tenant', 'state', 'since', 'indices', 'documents'], tenants.map((row) => [row.tenantId, row.state, row.since ?? '', row.indices, formatCount(row.documents)]));
    for (const line of settingsLines(tenants)) out.line(line);
    out.result({ tenants });
    return 0;
  },
};

async function requireKnown(config: Config, platform: Platform, tenants: readonly string[], signal: AbortSignal): Promise<void> {
  const unknown = await unknownTenants(config, platform, tenants, signal);
  if (unknown.length > 0) throw new DifyEsError('USAGE', unknown.map((tenantId) => `no such tenant: ${tenantId} has neither rows nor documents`).join('\n'));
}

async function look(config: Config, platform: Platform, tenantId: string, everyTenant: readonly string[], wait: boolean, log: Logger, signal: AbortSignal): Promise<Assessment> {
  for (;;) {
    const answer = await assess(config, platform, tenantId, everyTenant, log, signal);
    if (answer.ready || !wait) return answer;
    log.info({ tenantId, no: answer.findings.filter(({ level }) => level === 'fail').map(({ subject }) => subject) }, 'not ready yet');
    await sleep(LOOK_AGAIN_MS, undefined, { signal });
  }
}
