import { requireEnabled } from '../config/config.ts';
import { DEAD_LETTER_CAUSES, type DeadLetterCause } from '../core/contracts.ts';
import { DifyEsError } from '../core/errors.ts';
import { describeLetter, listLetters } from '../ops/dead-letters/list.ts';
import type { RedriveReport } from '../ops/dead-letters/redrive.ts';
import { runRedrive } from '../ops/dead-letters/run.ts';
import { createSchemaBook } from '../pipeline/encode/schema-book.ts';
import { openDeadLetters, type DeadLetters, type StoredLetter } from '../pipeline/kafka/dead-letters.ts';
import { openPlatform, type Platform } from '../run/platform.ts';
import { decoder } from '../run/sink.ts';
import { formatCount, formatDuration } from './format.ts';
import { createProgress } from './progress.ts';
import { defineVerb, type Answer, type VerbContext } from './verb.ts';

const ACTIONS = ['list', 'show', 'accept', 'redrive'] as const;
type Action = (typeof ACTIONS)[number];
/** Flags and the actions they go with. */
const FLAGS: Readonly<Record<string, readonly Action[]>> = { cause: ['list', 'redrive'], value: ['show'], why: ['accept'], dryRun: ['redrive'], force: ['redrive'] };
/** Letters that list names; `--json` too. */
const NAMED = 50;

interface DlqFlags {
  readonly action: Action;
  readonly ids: readonly string[];
  readonly cause: DeadLetterCause | null;
  readonly value: boolean;
  readonly why: string;
  readonly dryRun: boolean;
  readonly force: boolean;
}

export const dlq = defineVerb<DlqFlags>({
  name: 'dlq',
  summary: 'dead letters: list, show ID, accept ID --why TEXT, redrive',
  writes: false,
  declare: (command) =>
    command
      .argument('<action>', ACTIONS.join(', '))
      .argument('[ids...]', 'letters as list names them, partition:offset')
      .option('--cause <cause>', `list, redrive: only ${DEAD_LETTER_CAUSES.join(', ')}`)
      .option('--value', 'show: the row too, which is other people\'s data')
      .option('--why <text>', 'accept: the reason, kept with the decision')
      .option('--dry-run', 'redrive: say what would become of each, and do nothing')
      .option('--force', 'redrive: also letters of switched tenants'),
  read(flags, faults) {
    const [given, rest = []] = flags['args'] as [string, string[] | undefined];
    // an unknown flag is named already
    // 0:007 is the letter 0:7, and what is decided of it must be found under that name
    const ids = rest.filter((id) => !id.startsWith('-')).map((id) => id.replace(/^0:0+(?=\d)/, '0:'));
    const action = ACTIONS.find((name) => name === given);
    if (!action) faults.push(`${JSON.stringify(given)} is none of ${ACTIONS.join(', ')}`);
    for (const id of ids) if (!/^0:\d{1,15}$/.test(id)) faults.push(`${JSON.stringify(id)} is no letter: they are named partition:offset, for example 0:17`);
    if ((action === 'list' || action === 'redrive') && ids.length > 0) faults.push(`${action} takes no letters: --cause chooses`);
    if (action === 'show' && ids.length !== 1) faults.push('show takes one letter');
    if (action === 'accept' && ids.length === 0) faults.push('accept needs the letters');
    const why = String(flags['why'] ?? '').trim();
    if (action === 'accept' && why === '') faults.push('accept needs --why');
    for (const [flag, actions] of Object.entries(FLAGS)) if (action && flags[flag] !== undefined && !actions.includes(action)) faults.push(`--${flag === 'dryRun' ? 'dry-run' : flag} goes with ${actions.join(' and ')}`);
    const cause = DEAD_LETTER_CAUSES.find((name) => name === flags['cause']);
    if (flags['cause'] !== undefined && !cause) faults.push(`--cause ${JSON.stringify(flags['cause'])} is none of ${DEAD_LETTER_CAUSES.join(', ')}`);
    return { action: action ?? 'list', ids, cause: cause ?? null, why, value: flags['value'] === true, dryRun: flags['dryRun'] === true, force: flags['force'] === true };
  },
  async run(context, flags) {
    const { config, log } = context;
    if (flags.action === 'accept' || (flags.action === 'redrive' && !flags.dryRun)) requireEnabled(config);
    const platform = await openPlatform(config, log);
    try {
      if (flags.action === 'redrive') return await redrive(context, platform, flags);
      const letters = await openDeadLetters(platform.kafka, platform.names, platform.state.control);
      try {
        if (flags.action === 'list') return await list(context, letters, flags);
        if (flags.action === 'show') return await show(context, platform, letters, flags);
        return await accept(context, letters, flags);
      } finally {
        await letters.close();
      }
    } finally {
      await platform.close();
    }
  },
});

async function list({ out }: VerbContext, letters: DeadLetters, { cause }: DlqFlags): Promise<Answer> {
  const found = await listLetters(letters, cause, NAMED);
  const age = (at: string | null): string => (at === null ? '-' : formatDuration((Date.now() - Date.parse(at)) / 1000));
  if (found.groups.length === 0) out.line('no dead letters');
  else out.table(['cause', 'table', 'open', 'accepted', 'redriven', 'oldest open'], found.groups.map((group) => [group.cause, group.table, group.open, group.accepted, group.redriven, age(group.oldestOpen)]));
  if (found.letters.length > 0) out.table(['letter', 'cause', 'table', 'row', 'detail', 'age', 'redrives'], found.letters.map((letter) => [letter.id, letter.cause, letter.table, letter.rowId ?? '-', letter.detail, age(letter.at), letter.attempts]));
  if (found.open > found.letters.length) out.line(`${formatCount(found.open - found.letters.length)} more are open`);
  out.result(found);
  return 0;
}

async function show({ out }: VerbContext, platform: Platform, letters: DeadLetters, { ids, value }: DlqFlags): Promise<Answer> {
  const letter = await existing(letters, ids[0]!);
  const facts = { ...describeLetter(letter), ...(value ? { value: await rowOf(platform, letter) } : {}) };
  for (const [name, fact] of Object.entries(facts)) out.line(`${name.padEnd(12)}${typeof fact === 'object' && fact !== null ? JSON.stringify(fact) : String(fact)}`);
  out.result(facts);
  return 0;
}

/** Columns and their texts; bytes that are no row of this program as base64. */
async function rowOf({ state }: Platform, { table, value }: StoredLetter): Promise<unknown> {
  if (value === null) return null;
  try {
    const { shape, cells } = await decoder(createSchemaBook(state.control)).row(table, value);
    return Object.fromEntries(shape.columns.map((column, i) => [column, cells.get(i)?.toString('utf8') ?? null]));
  } catch (error) {
    if (error instanceof RangeError) return { base64: value.toString('base64') };
    throw error;
  }
}

async function accept({ out }: VerbContext, letters: DeadLetters, { ids, why }: DlqFlags): Promise<Answer> {
  const found: StoredLetter[] = [];
  // all are looked for before the first is recorded
  for (const id of ids) found.push(await existing(letters, id));
  for (const letter of found) await letters.accept(letter, why);
  out.line(`${formatCount(ids.length)} accepted: their rows stay out, and validate and cutover count them so, also when they are parked again`);
  out.result({ accepted: ids, why });
  return 0;
}

async function existing(letters: DeadLetters, id: string): Promise<StoredLetter> {
  const letter = await letters.get(id);
  if (!letter) throw new DifyEsError('USAGE', `there is no dead letter ${id}: \`dify-es dlq list\` names those that there are`);
  return letter;
}

const OUTCOMES: readonly (readonly [keyof RedriveReport, string])[] = [
  ['applied', 'written to Elasticsearch'],
  ['stale', 'settled: the document is newer'],
  ['reread', 'read again from PostgreSQL; the sinks write them'],
  ['gone', 'settled: the row was deleted'],
  ['moved', 'settled: the row has another tenant or month, with a record of its own'],
  ['expired', 'settled: retention dropped the month'],
  ['failed', 'failed again and stay open'],
  ['switched', 'of switched tenants: left alone'],
  ['unreadable', 'without a readable key: `dify-es dlq show`, then accept'],
];

async function redrive({ config, out, log, signal }: VerbContext, platform: Platform, { cause, dryRun, force }: DlqFlags): Promise<Answer> {
  const view = createProgress(out.json);
  const show = (report: RedriveReport): void => view.show({ name: 'dead letters', done: report.seen, total: null, rows: report.seen, bytes: 0 });
  const report = await runRedrive(config, platform, { cause, dryRun, force }, signal, log, show).finally(() => view.end());
  out.line(report.seen === 0 ? 'no letter is open' : `${formatCount(report.seen)} open letters${dryRun ? ', nothing was done; they would be' : ''}:`);
  for (const [name, text] of OUTCOMES) if (report[name] > 0) out.line(`${formatCount(report[name]).padStart(12)} ${text}`);
  out.result({ ...report, dryRun });
  return report.failed + report.switched + report.unreadable > 0 ? 1 : 0;
}
