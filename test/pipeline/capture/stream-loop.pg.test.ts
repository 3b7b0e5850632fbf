import type pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { isolate } from '../../support/servers.ts';
import { insertRun, longText, MemoryKafka, openSource, startStream, tableAsText, topicAsText, type RunningStream } from './harness.ts';

const here = isolate(import.meta.filename);
let client: pg.Client;
let kafka = new MemoryKafka();
let stream: RunningStream | undefined;

beforeAll(async () => {
  client = await openSource(here);
});
afterAll(() => client.end());
afterEach(async () => {
  await stream?.loop.stop();
  stream = undefined;
});

test('inserts, updates and deletes arrive as whole rows under the key of the row', async () => {
  stream = startStream(here, kafka);
  const graph = longText();
  const kept = await insertRun(client, { graph });
  const deleted = await insertRun(client, { graph });
  await client.query(`UPDATE workflow_runs SET status = 'succeeded' WHERE id = ANY($1)`, [[kept, deleted]]);
  await client.query('DELETE FROM workflow_runs WHERE id = $1', [deleted]);
  await stream.drained(client);
  expect(topicAsText(kafka, 'workflow_runs')).toEqual(await tableAsText(client, 'workflow_runs'));
  expect(kafka.records.map(({ op }) => op)).toEqual(['insert', 'insert', 'update', 'update', 'delete']);
  expect(kafka.letters).toEqual([]);
});
