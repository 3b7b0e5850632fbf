import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { TABLES } from '../../../src/core/contracts.ts';
import { parseLsn } from '../../../src/core/lsn.ts';
import { versionOfBackfill } from '../../../src/core/row-version.ts';
import type { BackfillRun } from '../../../src/core/state.ts';
import { insertRows } from '../../support/dify/copy.ts';
import { edgeCaseRows } from '../../support/dify/edge-cases.ts';
import { loadDataset } from '../../support/dify/generator.ts';
import { createDifySchema, DIFY_TABLES, dropDifySchema, RELEASES } from '../../support/dify/schema.ts';
import { isolate } from '../../support/servers.ts';
import { backfill, logRows, pinned, tableRows } from './harness.ts';
import { MemoryKafka } from './memory-kafka.ts';

const here = isolate(import.meta.filename);
let client: pg.Client;

beforeAll(async () => {
  client = await pinned(here)();
});
afterAll(() => client.end());
beforeEach(() => dropDifySchema(client));

const openRuns = (kafka: MemoryKafka): BackfillRun[] =>
  [...kafka.control].filter(([key]) => key.startsWith('backfill/run/')).map(([, run]) => run as BackfillRun);

describe('a whole run', () => {
  test.each(RELEASES)('ends with every row of release %s, hostile ones too, under the version of its barrier', async (release) => {
    await createDifySchema(client, { release });
    await loadDataset(client, { seed: 5, tenants: 2, runs: 40, months: ['2026-08', '2026-07'], offloadShare: 0.3 });
    const hostile = edgeCaseRows({ largest: 3_000_000 });
    for (const table of DIFY_TABLES) {
      await insertRows(client, table, hostile.rows[table]);
      await insertRows(client, table, hostile.deadLetters[table]);
    }
    const kafka = new MemoryKafka();
    const result = await backfill(here, kafka, { workers: 3, batchRows: 50 });
    expect(result.state).toBe('done');
    expect(result.missing).toEqual(['1.8.1', '1.4.3', '0.15.8'].includes(release) ? ['workflow_node_execution_offload'] : []);
    for (const table of TABLES) {
      if (result.missing.includes(table)) continue;
      const expected = await tableRows(client, table);
      expect(expected.size).toBeGreaterThan(0);
      expect(logRows(kafka, table)).toEqual(expected);
    }
    const version = versionOfBackfill(1, parseLsn(result.barrierLsn));
    expect(new Set(kafka.committed().map((record) => record.version))).toEqual(new Set([version]));
    expect(new Set(kafka.committed().map((record) => record.lsn))).toEqual(new Set([parseLsn(result.barrierLsn) - 1n]));
    expect(openRuns(kafka)).toMatchObject([{ state: 'done', barrierLsn: result.barrierLsn }]);
    expect(result.tables.map(({ done, blocks, blocksDone, rows, table }) => [done, blocksDone === blocks, rows === logRows(kafka, table).size])).toEqual(result.tables.map(() => [true, true, true]));
  });
});
