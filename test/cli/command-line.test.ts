import { pino } from 'pino';
import { describe, expect, it, test, vi } from 'vitest';
import { readCommandLine, wantsJson, type CommandLine } from '../../src/cli/command-line.ts';
import { createOutput } from '../../src/cli/output.ts';
import { VERBS } from '../../src/cli/verbs.ts';
import { DifyEsError } from '../../src/core/errors.ts';

/*
 * Wrong, hostile and empty input to every flag of every verb. What is refused here has been refused before a server was
 * asked: reading a command line opens nothing.
 */
const T = '3017b959-75bc-4820-83f3-0b69943e00eb';
const ENABLED = { ELASTICSEARCH_ENABLED: 'true' };

function read(args: readonly string[], env: Record<string, string> = ENABLED): CommandLine | null {
  return readCommandLine(args, () => env, VERBS);
}

/** The lines that the user sees. */
function faults(args: readonly string[], env: Record<string, string> = ENABLED): string[] {
  const help = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  try {
    read(args, env);
  } catch (error) {
    if (!(error instanceof DifyEsError)) throw error;
    expect(error.exitCode).toBe(2);
    expect(error.cure).not.toBe('');
    return error.message.split('\n');
  } finally {
    help.mockRestore();
  }
  throw new Error(`accepted: ${args.join(' ')}`);
}

/** Each verb with arguments that it accepts, so that the one wrong thing is what is refused. */
const VALID: Readonly<Record<string, readonly string[]>> = {
  'cleanup-pg': ['--tenant-id', T, '--before-date', '2025-01-01'],
  // behind a list flag every word is one of the list
  cutover: ['--tenant-id', T, '--json'],
  dlq: ['list'],
  replay: ['--from-beginning'],
  search: ['word'],
  trace: ['workflow_runs', T],
};
const valid = (verb: string): readonly string[] => VALID[verb] ?? [];

/** The values that no flag of that kind takes. */
const NO_UUID = ['', ' ', ',', '*', '%', '../x', 'dify-*', `${T}*`, `${T},*`, `${T}-2025.01`, '_all', '-1', 'null', 'NaN', T.replaceAll('-', ''), `${T}\u0000`, `x' OR '1'='1`, T.replace('3', '３'), 'x'.repeat(5000)];
const NO_NUMBER = ['', ' ', '*', '../', '-5', '0', '1.5', '1e3', 'NaN', 'Infinity', '0x10', '９', '1;drop', '9'.repeat(30), `1${'0'.repeat(400)}`];
const NO_DAY = ['', ' ', '*', '../', '-1', 'NaN', 'now', 'yesterday', '2025-02-30', '2025-13-01', '2025-00-10', '2023-02-29', '0000-01-01', '9999-12-31', '12025-01-01', '2025-1-1', '2025-01-01T00:00:00Z', '01.02.2025', '2025/01/01', "2025-01-01'--"];
const TOMORROW = new Date(Date.now() + 86_400_000).toISOString().slice(0, 10);
const NO_TABLE = ['', ',', '*', '../', 'users', 'WORKFLOW_RUNS', 'workflow_runs;', '-1'];

type Flag = readonly [verb: string, flag: string, values: readonly string[], more?: readonly string[]];
const FLAGS: readonly Flag[] = [
  ...['migrate', 'validate', 'status', 'search', 'cutover', 'retention', 'cleanup-pg'].map((verb): Flag => [verb, '--tenant-id', NO_UUID]),
  ['migrate', '--start-date', NO_DAY], ['migrate', '--end-date', NO_DAY], ['search', '--from', NO_DAY], ['search', '--to', NO_DAY], ['cleanup-pg', '--before-date', [...NO_DAY, '9000-01-01', TOMORROW]],
  ['migrate', '--data-type', NO_TABLE], ['validate', '--data-type', NO_TABLE], ['replay', '--table', NO_TABLE],
  ['migrate', '--batch-size', NO_NUMBER], ['migrate', '--workers', [...NO_NUMBER, '65']], ['migrate', '--rate', NO_NUMBER],
  ['validate', '--sample-size', [...NO_NUMBER, '100001']], ['console', '--port', [...NO_NUMBER, '65536']], ['search', '--limit', NO_NUMBER], ['search', '--status', ['', ' ']], ['trace', '--last', NO_NUMBER],
  ['setup', '--lock-wait', NO_NUMBER], ['teardown', '--lock-wait', NO_NUMBER], ['setup', '--role', ['', ' ', 'x'.repeat(64), 'a\nb', 'a\u0000'], ['--print-sql']],
  ['retention', '--days', NO_NUMBER], ['retention', '--every', ['', '*', '-1h', '0h', '24', '24 h', '1.5h', '1w', 'NaN', '25d', '99999d', '99999h'], ['--yes']],
  ['cutover', '--quiet', NO_NUMBER, ['--confirm']], ['cutover', '--limit', NO_NUMBER, ['--confirm']],
  ['cleanup-pg', '--batch-size', NO_NUMBER], ['cleanup-pg', '--pause', NO_NUMBER.filter((value) => value !== '0')],
  ['dlq', '--cause', ['', '*', 'x', '../', 'refused,no-month', '-1']],
  ['replay', '--from-time', ['', '*', '-1', 'NaN', '2026-07-01', '2026-07-01T12:00:00', '2026-02-30T00:00:00Z', '2026-07-01T25:00:00Z', '0000-01-01T00:00:00Z', '9000-01-01T00:00:00Z', '1751371200000']],
  ['replay', '--from-offset', ['', ',', '*', '../', '-1', '0:-1', '-1:0', '0', 'users:0:0', 'workflow_runs:*:0', 'workflow_runs:0:NaN', `0:${'9'.repeat(30)}`]],
];
/** Flags that say from where: one of them only. */
const instead = (verb: string, flag: string): readonly string[] => {
  const args = valid(verb);
  if (verb === 'replay' && flag.startsWith('--from')) return [];
  const at = args.indexOf(flag);
  return at === -1 ? args : [...args.slice(0, at), ...args.slice(at + 2)];
};

describe('a value that a flag does not take is refused in one line that names the flag:', () => {
  test.each(FLAGS.map(([verb, flag, values, more = []]) => ({ verb, flag, values, more })))('$verb $flag', ({ verb, flag, values, more }) => {
    for (const value of values) {
      const found = faults([verb, ...instead(verb, flag), ...more, `${flag}=${value}`]);
      expect(found.length, `${flag}=${value}: ${found.join(' | ')}`).toBeLessThanOrEqual(value.includes(',') ? 2 : 1);
      expect(found[0], `${flag}=${value}`).toContain(flag);
    }
  });
});

describe('every verb refuses', () => {
  test.each(VERBS.map(({ name }) => name))('%s with a flag that there is not, an argument too many, and what a shell would have expanded', (verb) => {
    expect(faults([verb, ...valid(verb), '--no-such-flag'])).toEqual(['unknown flag --no-such-flag']);
    expect(faults([verb, ...valid(verb), '-x'])).toEqual(['unknown flag -x']);
    if (verb === 'search') return;
    const why = verb === 'dlq' ? 'is no letter' : 'unexpected argument';
    for (const argument of ['*', '../../etc', '']) expect(faults([verb, ...valid(verb), argument]).join(), `${verb} ${argument}`).toContain(why);
  });

  /** Every flag with a value, by the verb's own declaration: a new one is covered on the day it is written. */
  const declared = VERBS.flatMap(({ name }) => flagsWithValue(name).map((flag) => [name, flag] as const));
  test.each(declared)('%s %s without its value, and before another flag', (verb, flag) => {
    expect(faults([verb, ...valid(verb), flag]).join()).toContain(`${flag}`);
    expect(faults([verb, ...valid(verb), flag, '--json']).join('\n')).toContain(`${flag} has no value before --json`);
  });

  test.each(declared.filter(([verb, flag]) => !isList(verb, flag)))('%s %s given twice, since the last one would win unseen', (verb, flag) => {
    expect(faults([verb, ...valid(verb), flag, 'a', flag, 'b'])).toContain(`${flag} is given twice`);
  });

  it('names all faults at once, those of the configuration too, and never a password', () => {
    const env = { ...ENABLED, DB_PORT: '99999', DB_PASSWORD: 'geheim-1', ELASTICSEARCH_INDEX_PREFIX: '*' };
    const found = faults(['validate', '--tenant-id', '*', '--sample-size', '-5', '--full', '--nonsense=geheim-2', 'postgres://u:geheim-3@host/db'], env);
    expect(found).toHaveLength(7);
    expect(found.join('\n')).not.toContain('geheim');
    expect(faults(['trace'], env)).toContain('DB_PORT = "99999" is no whole number from 1 to 65535');
  });
});

function help(verb: string): string {
  const written: string[] = [];
  const out = vi.spyOn(process.stdout, 'write').mockImplementation((text) => written.push(String(text)) > 0);
  try {
    expect(read([verb, '--help'])).toBeNull();
  } finally {
    out.mockRestore();
  }
  return written.join('');
}
function flagsWithValue(verb: string): string[] {
  return [...help(verb).matchAll(/^ {2}(--[a-z-]+) </gm)].map(([, flag]) => flag!);
}
function isList(verb: string, flag: string): boolean {
  return new RegExp(`^ {2}${flag} <[^>]*\\.\\.\\.>`, 'm').test(help(verb));
}

describe('what does not go together is refused:', () => {
  test.each<[args: string[], fault: RegExp]>([
    [['migrate', '--start-date', '2025-10-02', '--end-date', '2025-10-01'], /--end-date is before/],
    [['migrate', '--abandon', '--tenant-id', T], /--abandon gives the open backfill up as a whole/],
    [['migrate', '--abandon', '--dry-run'], /--abandon/],
    [['validate', '--full', '--sample-size', '5'], /exclude each other/],
    [['validate', '--sample-size', '100001'], /from 1 to 100000; use --full for more/],
    [['validate', '--delete-extra'], /goes with --repair/],
    [['replay'], /says from where/],
    [['replay', '--from-beginning', '--from-time', '2025-01-01T00:00:00Z'], /says from where/],
    [['replay', '--from-beginning', '--run', '--detach'], /exclude/],
    [['replay', '--from-beginning', '--force'], /goes with --run/],
    [['cutover'], /--tenant-id is missing/],
    [['cutover', '--all', '--tenant-id', T], /takes no --tenant-id/],
    [['cutover', '--tenant-id', T, '--confirm', '--revert'], /exclude/],
    [['cutover', '--tenant-id', T, '--confirm', '--wait'], /does not go with/],
    [['cutover', '--tenant-id', T, '--force'], /goes with --revert/],
    [['cutover', '--tenant-id', T, '--quiet', '5'], /go with --confirm/],
    [['retention', '--every', '24h'], /needs --yes/],
    [['retention', '--every', '24h', '--yes', '--dry-run'], /exclude/],
    [['cleanup-pg', '--tenant-id', T], /--before-date is missing/],
    [['cleanup-pg', '--before-date', '2025-01-01'], /--tenant-id is missing/],
    [['cleanup-pg', '--tenant-id', `${T},00000000-0000-0000-0000-000000000000`, '--before-date', '2025-01-01'], /takes one tenant/],
    [['dlq'], /missing required argument 'action'/],
    [['dlq', 'erase'], /is none of/],
    [['dlq', 'show'], /takes one letter/],
    [['dlq', 'show', '*'], /is no letter/],
    [['dlq', 'accept', '0:1'], /needs --why/],
    [['dlq', 'accept', '0:1', '--why', '  '], /needs --why/],
    [['dlq', 'list', '--force'], /goes with redrive/],
    [['dlq', 'redrive', '0:1'], /--cause chooses/],
    [['trace', 'workflow_runs', '*'], /is no uuid/],
    [['trace', '*', T], /is none of/],
    [['search', ''], /no words/],
    [['search', 'x', '--from', '2025-10-02', '--to', '2025-10-01'], /--to is before/],
    [['setup', '--role', 'x'], /goes with --print-sql/],
    [[], /which verb/],
    [['nonsense'], /unknown command 'nonsense'/],
    [['chekc'], /check/],
    [[''], /unknown command/],
  ])('%j', (args, fault) => {
    expect(faults(args).join('\n')).toMatch(fault);
  });
});

describe('accepted are', () => {
  test.each<[string[], unknown]>([
    [['validate', '--tenant-id', T.toUpperCase(), T, '--tenant-id', `${T},`], { request: { tenantIds: [T] } }],
    [['migrate', '--start-date', '2024-02-29', '--end-date', '2024-02-29'], { filter: { from: '2024-02-29 00:00:00', before: '2024-03-01 00:00:00' } }],
    [['migrate', '--start-date', '0001-01-01', '--end-date', '9998-12-31'], { filter: { before: '9999-01-01 00:00:00' } }],
    [['search', '--', '--json', '-5'], { words: ['--json', '-5'] }],
    [['search', '天気 予報', 'x'], { words: ['天気 予報', 'x'] }],
    [['replay', '--from-time', '2025-07-01T12:00:00+02:00'], { start: { kind: 'time', timeMs: Date.UTC(2025, 6, 1, 10) } }],
    [['replay', '--from-offset', 'workflow_runs:0:5,1:6'], { start: { offsets: [{ table: 'workflow_runs', partition: 0, offset: 5n }, { table: null, partition: 1, offset: 6n }] } }],
    [['dlq', 'accept', '0:007', '0:0', '--why', 'x'], { ids: ['0:7', '0:0'] }],
    [['retention', '--yes', '--yes', '--every', '24d'], { everyMs: 24 * 86_400_000 }],
  ])('%j', (args, options) => {
    expect(read(args)?.options).toMatchObject(options as object);
  });

  it('--json before and behind, but not behind --', () => {
    expect([['status', '--json'], ['search', '--', '--json']].map(wantsJson)).toEqual([true, false]);
  });
});

it('verbs that only write refuse while ELASTICSEARCH_ENABLED is false', () => {
  for (const verb of ['stream', 'sink', 'run']) expect(faults([verb], {})).toEqual(['ELASTICSEARCH_ENABLED is false: nothing is written']);
});

/** No server is named, so that one that was asked would show as unreachable. */
test.each([
  ['setup'], ['teardown'], ['migrate'], ['migrate', '--abandon'], ['validate', '--repair'], ['dlq', 'accept', '0:1', '--why', 'x'], ['dlq', 'redrive'], ['replay', '--from-beginning'],
  ['cutover', '--tenant-id', T], ['cutover', '--tenant-id', T, '--confirm'], ['cutover', '--tenant-id', T, '--revert'], ['retention', '--yes'], ['cleanup-pg', ...VALID['cleanup-pg']!],
])('%s refuses as long as it is false', async (...args) => {
  const { verb, config, options } = read(args, { ELASTICSEARCH_HOSTS: 'http://127.0.0.1:1', KAFKA_BROKERS: '127.0.0.1:1', DB_HOST: '127.0.0.1', DB_PORT: '1' })!;
  const context = { config, out: createOutput(false, () => {}), log: pino({ level: 'silent' }), signal: new AbortController().signal };
  await expect(verb.run(context, options)).rejects.toMatchObject({ code: 'DISABLED', exitCode: 2 });
});

test.each(VERBS.map(({ name, summary }) => ({ name, summary })))('$name --help says what it does and has a line for each flag', ({ name, summary }) => {
  const text = help(name);
  expect(text.replaceAll(/\s+/g, ' ')).toContain(summary.replaceAll(/\s+/g, ' '));
  const lines = text.slice(text.indexOf('Options:')).split('\n').filter((line) => /^ {2}-/.test(line));
  expect(lines.length).toBeGreaterThan(1);
  for (const line of lines) expect(line, `${name}: a flag without a word about it`).toMatch(/^ {2}\S+(?:, --\S+)?(?: <[^>]+>)? {2,}\S/);
});
