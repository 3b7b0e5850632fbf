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
 * reader would type it. A wrong flag (2) or a server that was not meant (3) fails; a verb may answer no (1) only where a
 * document says why in words, so those are listed here.
 */
const MAY_SAY_NO = ['replay', 'trace', 'cutover', 'cleanup-pg', 'search'];
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

/** As a shell splits them: a quoted text is one word. */
function wordsOf(command: string): string[] {
  return [...command.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(([, double, single, plain]) => double ?? single ?? plain!);
}

it('finds commands in both documents', () => {
  for (const document of DOCUMENTS) expect(commandsOf(document).length).toBeGreaterThan(4);
});

it.each(commands)('%s', async (command) => {
  const args = wordsOf(command.replace(SOME_TENANT, tenant).replace(SOME_LETTER, LETTER));
  if (['run', 'stream', 'sink'].includes(args[0]!)) {
    // one is enough: a second reader would only wait for the slot
    background ??= await pipeline.start('run');
    return;
  }
  if (args[0] === 'teardown') {
    await background?.stop();
    background = undefined;
  }
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
  const { code } = await program.ended;
  const allowed = MAY_SAY_NO.some((verb) => command.startsWith(verb)) ? [0, 1] : [0];
  if (code === null || !allowed.includes(code)) throw new Error(`${command} ended with ${code}\n${program.describe()}`);
});
