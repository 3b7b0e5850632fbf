import { beforeAll, describe, expect, test } from 'vitest';
import { CONNECTORS } from '../../../src/connector/registry.ts';
import { indexName } from '../../../src/pipeline/sink/index-name.ts';
import { type IndexPace, RelaxedIndices, relaxedPace } from '../../../src/pipeline/sink/relaxed.ts';
import { ensureTemplates, templateOf } from '../../../src/pipeline/sink/templates.ts';
import { tenantTemplates } from '../../../src/run/templates.ts';
import { isolate } from '../../support/servers.ts';
import { TENANT } from './documents-of.ts';
import { clientOf, harness, Log, newId, templateSettings } from './sink-harness.ts';

const here = isolate(import.meta.filename);
const client = clientOf(here.elasticsearchUrl);
const settings = { ...templateSettings(here.indexPrefix), replicas: 1 };
const PREPARED = '22222222-2222-4222-8222-222222222222';
const relaxed = new RelaxedIndices(client, here.indexPrefix, settings, { refreshInterval: '-1', replicas: 0 });
const nameOf = (month: string, tenantId = TENANT): string => indexName(here.indexPrefix, CONNECTORS.workflow_runs, tenantId, month);

beforeAll(async () => {
  await ensureTemplates(client, Object.values(CONNECTORS).map((connector) => templateOf(connector, settings)));
});

async function paceOf(index: string): Promise<Partial<IndexPace>> {
  const found = (await client.indices.getSettings({ index, flat_settings: true }))[index]!.settings as Record<string, string>;
  return { refreshInterval: found['index.refresh_interval']!, replicas: Number(found['index.number_of_replicas']) };
}

test.each([
  ['30s', '60s', '60s'], ['60s', '30s', '60s'], ['-1', '60s', '-1'], ['30s', '-1', '-1'], ['2m', '90000ms', '2m'],
])('configured %s and wanted %s make %s: never more often than configured', (refreshInterval, wanted, result) => {
  expect(relaxedPace({ refreshInterval, replicas: 2 }, { refreshInterval: wanted, replicas: 0 })).toEqual({ refreshInterval: result, replicas: 0 });
  expect(relaxedPace({ refreshInterval, replicas: 0 }, { refreshInterval: wanted, replicas: 3 }).replicas).toBe(0);
});

describe('a relaxed index', () => {
  test('has the mapping of its template, is known as relaxed, and is put back as its template says, with its documents findable', async () => {
    const log = new Log();
    const h = harness(client, log, here.indexPrefix, { beforeNew: async (names) => void (await Promise.all(names.map((name) => relaxed.make(name)))) });
    const index = nameOf('2024.01');
    await h.handle(log, [log.row(newId(), 1, { status: 'succeeded' }, { createdAt: '2024-01-05 00:00:00' })]);
    expect(await relaxed.list()).toEqual([index]);
    expect(await paceOf(index)).toEqual({ refreshInterval: '-1', replicas: 0 });
    expect((await client.indices.getMapping({ index }))[index]!.mappings).toHaveProperty('dynamic', 'false');
    expect((await client.count({ index })).count).toBe(0);

    expect(await relaxed.putBack()).toEqual([index]);
    expect(await paceOf(index)).toEqual({ refreshInterval: '30s', replicas: 1 });
    expect((await client.count({ index })).count).toBe(1);
    expect(await relaxed.list()).toEqual([]);
    expect(await relaxed.putBack()).toEqual([]);
  });

  test('that is there already stays as it is', async () => {
    const index = nameOf('2024.02');
    await client.indices.create({ index });
    expect(await relaxed.make(index)).toBe(false);
    expect(await paceOf(index)).toEqual({ refreshInterval: '30s', replicas: 1 });
  });

  test('of a tenant that is prepared for its switch is never made; one that was made before gets the tenant\'s interval back', async () => {
    const before = nameOf('2024.03', PREPARED);
    expect(await relaxed.make(before)).toBe(true);
    await ensureTemplates(client, tenantTemplates(PREPARED, settings));
    expect(await relaxed.make(nameOf('2024.04', PREPARED))).toBe(false);
    expect(await relaxed.putBack()).toEqual([before]);
    expect(await paceOf(before)).toEqual({ refreshInterval: '1s', replicas: 1 });
  });

  test('that is dropped while many are put back is no error', async () => {
    const months = Array.from({ length: 12 }, (_, month) => nameOf(`2023.${String(month + 1).padStart(2, '0')}`));
    for (const name of months) await relaxed.make(name);
    const dropping = new RelaxedIndices(client, here.indexPrefix, settings, { refreshInterval: '-1', replicas: 0 });
    const listed = await dropping.list();
    dropping.list = async () => {
      await client.indices.delete({ index: months[3]! });
      return listed;
    };
    await dropping.putBack();
    expect(await relaxed.list()).toEqual([]);
    for (const name of months.toSpliced(3, 1)) expect(await paceOf(name), name).toEqual({ refreshInterval: '30s', replicas: 1 });
  });
});
