import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadDataset, monthsUntil } from './support/dify/generator.ts';
import { createDifySchema } from './support/dify/schema.ts';
import { freePort } from './support/free-port.ts';
import { Pipeline, until } from './support/pipeline.ts';
import type { Program } from './support/program.ts';
import { isolate } from './support/servers.ts';

/*
 * Every `bin/dify-es …` line of the README and of the operator's guide, in their order, against real servers, as a
 * reader would type it, with the exit code that a reader would see here: 0 but for those below.
 */
const SAYS_NO: readonly (readonly [command: RegExp, why: string])[] = [
  [/^trace /, 'no row has the id of the documents'],
  [/^search /, 'no run has the words'],
  [/^cutover --tenant-id \S+$/, 'the refresh interval is 30s until --prepare'],
];
const DOCUMENTS = ['README.md', 'docs/05-operations.md'];
const SOME_TENANT = /3017b959-75bc-4820-83f3-0b69943e00eb/g;
/** The letter that the documents speak of, and the one that is here: a run of no month, parked by the sink as the first. */
const SOME_LETTER = /\b0:17\b/g;
const LETTER = '0:0';

function commandsOf(document: string): string[] {
  const text = readFileSync(join(import.meta.dirname, '..', document), 'utf8');
  const lines = [...text.matchAll(/```sh\n(.*?)```/gs)].flatMap(([, block]) => block!.split('\n'));
  return lines.flatMap((line) => /^bin\/dify-es ([^#&|;]*)/.exec(line.trim())?.[1]?.trim() ?? []);
}

// the way out comes last, wherever a document speaks of it
const isTeardown = (command: string): boolean => command.startsWith('teardown');
const listed = DOCUMENTS.flatMap(commandsOf);
const commands = [...listed.filter((command) => !isTeardown(command)), ...listed.filter(isTeardown)];
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2', WAL_BUDGET: '2GB' });
let db: pg.Client;
let tenant = '';
let background: Program | undefined;
let wasRunning = false;

beforeAll(async () => {
  db = await pipeline.connect();
  await createDifySchema(db);
  const loaded = await loadDataset(db, { seed: 71, tenants: 2, runs: 20, nodesPerRun: 2, months: monthsUntil(new Date().toISOString().slice(0, 7), 2) });
  tenant = loaded.tenants[0]!;
  await db.query("UPDATE workflow_app_logs SET created_at = 'infinity' WHERE id = (SELECT id FROM workflow_app_logs LIMIT 1)");
});
afterAll(async () => {
  await pipeline.killAll();
  await db?.end();
});

/** One `run` is enough: a second reader would only wait for the slot. */
async function keepRunning(): Promise<void> {
  background ??= await pipeline.start('run');
  wasRunning = true;
}

/** As a shell splits them: a quoted text is one word. */
function wordsOf(command: string): string[] {
  return [...command.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(([, double, single, plain]) => double ?? single ?? plain!);
}

it('finds commands in both documents', () => {
  for (const document of DOCUMENTS) expect(commandsOf(document).length).toBeGreaterThan(4);
});

it.each(commands)('%s', async (command) => {
  const args = wordsOf(command.replace(SOME_TENANT, tenant).replace(SOME_LETTER, LETTER));
  if (['run', 'stream', 'sink'].includes(args[0]!)) return keepRunning();
  // neither goes while there is a sink, and the documents say so
  if (args[0] === 'teardown' || args[0] === 'replay') {
    await background?.stop();
    background = undefined;
  } else if (wasRunning) await keepRunning();
  if (args[0] === 'console') {
    const program = pipeline.spawn(args.includes('--port') ? args : [...args, '--port', String(await freePort())]);
    await program.said('serving the console');
    return program.stop();
  }
  if (args.includes('--every')) {
    const program = pipeline.spawn(args);
    await until('the first round has ended', () => program.stdout !== '');
    return program.stop();
  }
  const program = pipeline.spawn(args);
  if (args[0] === 'replay' && !['--dry-run', '--run', '--detach'].some((flag) => args.includes(flag))) {
    await until('the replay asks for a sink', () => program.stdout.includes('start `dify-es sink`') || !program.isRunning());
    await keepRunning();
  }
  const { code } = await program.ended;
  const expected = SAYS_NO.some(([pattern]) => pattern.test(args.join(' '))) ? 1 : 0;
  if (code !== expected) throw new Error(`${command} ended with ${code} instead of ${expected}\n${program.stdout}\n${program.describe()}`);
});

it('every exception is one of a command that the documents have', () => {
  for (const [pattern, why] of SAYS_NO) expect(commands.some((command) => pattern.test(command)), why).toBe(true);
});
