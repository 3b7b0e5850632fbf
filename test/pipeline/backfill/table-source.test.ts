import { expect, test } from 'vitest';
import { describeTable } from '../../../src/pipeline/backfill/table-source.ts';

test('the stamp of a table is asked for before its size, so that a rewrite in between never leaves the new stamp with the old pages', async () => {
  const asked: string[] = [];
  const session = { query: (text: string) => (asked.push(text), Promise.resolve([])) };
  await describeTable(session, 'public', 'workflow_runs');
  const stamp = asked[0]!.indexOf('pg_relation_filenode');
  expect(stamp).toBeGreaterThan(0);
  expect(asked[0]!.indexOf('pg_relation_size')).toBeGreaterThan(stamp);
  expect(asked[0]!.indexOf('pg_table_size')).toBeGreaterThan(stamp);
});
