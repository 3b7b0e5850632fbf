import { requireEnabled } from '../config/config.ts';
import { CONNECTORS, connectorOfDataType } from '../connector/registry.ts';
import { TABLES, type TableName } from '../core/contracts.ts';
import { spansOf, type OffsetChoice, type ReplayStart } from '../ops/replay/plan.ts';
import { follow, prepareReplay, refuseWithMembers, rewind, switchedTenants } from '../ops/replay/replay.ts';
import { openPlatform } from '../run/platform.ts';
import { list, moment } from './flags.ts';
import { formatCount } from './format.ts';
import { createProgress } from './progress.ts';
import { defineVerb } from './verb.ts';

interface ReplayFlags {
  readonly start: ReplayStart;
  readonly tables: readonly TableName[];
  readonly dryRun: boolean;
  readonly run: boolean;
  readonly force: boolean;
  readonly detach: boolean;
}

export const replay = defineVerb<ReplayFlags>({
  name: 'replay',
  summary: 'reads Kafka again into Elasticsearch, from the beginning, a time or offsets',
  writes: false,
  declare: (command) =>
    command
      .option('--from-beginning', 'everything that is in the topics')
      .option('--from-time <time>', 'what was written to Kafka since, for example 2026-07-01T12:00:00Z')
      .option('--from-offset <place...>', 'TABLE:PARTITION:OFFSET, comma separated; without the table where one --table is named')
      .option('--table <names...>', 'only these tables, by their name or as --data-type says it')
      .option('--run', 'with a sink in this process, until it is through')
      .option('--detach', 'set the group back and leave the rest to the sinks')
      .option('--force', 'with --run: also tenants that were switched; what Dify has written since is newer only by chance')
      .option('--dry-run', 'show what would be read'),
  read(flags, faults) {
    const [run, detach, force, dryRun] = [flags['run'] === true, flags['detach'] === true, flags['force'] === true, flags['dryRun'] === true];
    if (run && detach) faults.push('--run and --detach exclude each other');
    if (force && !run) faults.push('--force goes with --run: sinks elsewhere leave switched tenants alone');
    return { start: startOf(flags, faults), tables: tablesOf(flags, faults), dryRun, run, force, detach };
  },
  async run({ config, out, log, signal }, { start, tables, dryRun, run, force, detach }) {
    if (!dryRun) requireEnabled(config);
    const platform = await openPlatform(config, log);
    try {
      if (!dryRun) await refuseWithMembers(config, platform);
      const { steps } = await prepareReplay(config, platform, start, tables);
      const spans = spansOf(steps);
      const answer = { group: config.kafka.group, tables: spans, steps, switchedTenants: switchedTenants(platform) };
      out.table(['table', 'partitions set back', 'read again', 'read in all'], spans.map(({ table, partitions, again, total }) => [table, partitions, `≤ ${formatCount(Number(again))}`, `≤ ${formatCount(Number(total))}`]));
      if (answer.switchedTenants > 0 && !force) out.line(`${formatCount(answer.switchedTenants)} tenants are switched: nothing of theirs is written, as Elasticsearch is their truth`);
      if (dryRun) {
        out.result({ ...answer, done: false });
        return 0;
      }
      await rewind(config, platform, steps);
      out.line(`the group ${config.kafka.group} is set back${run ? '' : ': start `dify-es sink` (or `dify-es run`) now'}`);
      if (!detach) {
        const view = createProgress(out.json);
        await follow(steps, {
          config, platform, log, signal, sink: run ? (force ? 'over-switched' : 'run') : 'none',
          onProgress: ({ done, total }) => view.show({ name: 'replay', done: Number(done), total: Number(total), rows: Number(done), bytes: 0 }),
        }).finally(() => view.end());
        out.line('every record up to the ends at the start is settled');
      }
      out.result({ ...answer, done: !detach });
      return 0;
    } finally {
      await platform.close();
    }
  },
});

type Flags = Readonly<Record<string, unknown>>;
const NO_START: ReplayStart = { kind: 'beginning' };

function startOf(flags: Flags, faults: string[]): ReplayStart {
  const given = (['fromBeginning', 'fromTime', 'fromOffset'] as const).filter((name) => flags[name] !== undefined);
  if (given.length !== 1) faults.push('one of --from-beginning, --from-time and --from-offset says from where');
  if (flags['fromOffset'] !== undefined) {
    const places = list(flags['fromOffset']);
    if (places.length === 0) faults.push('--from-offset is empty');
    return { kind: 'offsets', offsets: places.flatMap((text) => offsetOf(text, faults)) };
  }
  if (flags['fromTime'] === undefined) return NO_START;
  return { kind: 'time', timeMs: moment(flags, faults, 'fromTime', '--from-time') ?? Number.NaN };
}

function offsetOf(text: string, faults: string[]): OffsetChoice[] {
  const match = /^(?:([a-z_]+):)?(\d{1,9}):(\d{1,18})$/.exec(text);
  const table = match?.[1] === undefined ? null : tableOf(match[1]);
  if (match && table !== undefined) return [{ table, partition: Number(match[2]), offset: BigInt(match[3]!) }];
  faults.push(`--from-offset ${JSON.stringify(text)} is no TABLE:PARTITION:OFFSET`);
  return [];
}

function tablesOf(flags: Flags, faults: string[]): TableName[] {
  if (flags['table'] === undefined) return [...TABLES];
  const names = list(flags['table']);
  if (names.length === 0) faults.push('--table is empty');
  const found = names.map((name) => {
    const table = tableOf(name);
    if (!table) faults.push(`--table ${JSON.stringify(name)} is none of ${TABLES.join(', ')}`);
    return table;
  });
  return TABLES.filter((table) => found.includes(table));
}

const tableOf = (name: string): TableName | undefined => connectorOfDataType(name)?.table ?? Object.values(CONNECTORS).find(({ table }) => table === name)?.table;
