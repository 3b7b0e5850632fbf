import { describe, expect, test } from 'vitest';
import { CONNECTORS } from '../../../src/connector/registry.ts';
import { indexName } from '../../../src/pipeline/sink/index-name.ts';
import { mappingOf } from '../../../src/pipeline/sink/mapping.ts';
import { ensureTemplates, removeTemplates, templateOf, templateStates } from '../../../src/pipeline/sink/templates.ts';
import type { IndexTemplate, TemplateSettings } from '../../../src/pipeline/sink/templates.ts';
import { isolate } from '../../support/servers.ts';
import { TENANT } from './documents-of.ts';
import { Log, clientOf, harness, newId, templateSettings } from './sink-harness.ts';

const here = isolate(import.meta.filename);
const client = clientOf(here.elasticsearchUrl);
const all = (more: Partial<TemplateSettings> = {}): IndexTemplate[] => Object.values(CONNECTORS).map((connector) => templateOf(connector, { ...templateSettings(here.indexPrefix), ...more }));
const names = all().map(({ name }) => name);
const states = async (templates: readonly IndexTemplate[]): Promise<string[]> => [...(await templateStates(client, templates)).values()];

describe('templates', () => {
  test('are put when they are absent, and not again', async () => {
    expect(await states(all())).toStrictEqual(['absent', 'absent', 'absent', 'absent']);
    expect(await ensureTemplates(client, all())).toStrictEqual(names);
    expect(await states(all())).toStrictEqual(['current', 'current', 'current', 'current']);
    expect(await ensureTemplates(client, all())).toStrictEqual([]);
  });

  test('are put again when the configuration changes, or when somebody has changed them by hand', async () => {
    await ensureTemplates(client, all());
    const other = all({ refreshInterval: '1s', codec: 'best_compression' });
    expect(await ensureTemplates(client, other)).toStrictEqual(names);
    const [first] = other;
    const tampered = structuredClone(first!.body) as { template: { mappings: { dynamic: unknown } } };
    tampered.template.mappings.dynamic = true;
    await client.transport.request({ method: 'PUT', path: `/_index_template/${first!.name}`, body: tampered });
    expect(await ensureTemplates(client, other)).toStrictEqual([first!.name]);
    await ensureTemplates(client, all());
  });

  test('are removed, and removing what is not there is no error', async () => {
    await removeTemplates(client, all());
    await removeTemplates(client, all());
    expect(await states(all())).toStrictEqual(['absent', 'absent', 'absent', 'absent']);
  });
});

test('an index gets our mapping and settings, also while Dify puts its own template of like pattern without a priority', async () => {
  await ensureTemplates(client, all({ shards: 2 }));
  const foreign = `${here.indexPrefix}-workflow-runs-template`;
  await client.indices.putIndexTemplate({ name: foreign, index_patterns: [`${here.indexPrefix}-workflow-runs-*`], template: { settings: { number_of_shards: 1 }, mappings: { properties: { status: { type: 'text' } } } } });
  for (const connector of Object.values(CONNECTORS)) {
    const index = indexName(here.indexPrefix, connector, TENANT, '2025.10');
    await client.index({ index, id: '1', document: { id: '1', surprise: { deep: 1 } } });
    const found = (await client.indices.get({ index, flat_settings: true }))[index]!;
    expect(found.mappings, connector.index).toEqual({ ...mappingOf(connector, { searchText: true }), dynamic: 'false' });
    expect(found.settings).toMatchObject({ 'index.number_of_shards': '2', 'index.number_of_replicas': '0', 'index.refresh_interval': '30s', 'index.gc_deletes': '1h', 'index.mapping.total_fields.limit': '2000' });
  }
});

test('an index of another prefix, or one that only begins like ours, gets nothing of it', async () => {
  await ensureTemplates(client, all());
  for (const index of [`${here.indexPrefix}-workflow-runs`, `${here.indexPrefix}-workflow-runs-archive-2025.10`, `${here.indexPrefix}-other-${TENANT}-2025.10`]) {
    await client.index({ index, id: '1', document: { surprise: 1 } });
    expect((await client.indices.getMapping({ index }))[index]!.mappings).toHaveProperty('properties.surprise');
  }
});

test('templates that are deleted while the sink runs are there again before a new index is made', async () => {
  const log = new Log();
  const h = harness(client, log, here.indexPrefix, { templates: all() });
  await removeTemplates(client, all());
  await h.handle(log, [log.row(newId(), 1, { added_later: 'x' }, { createdAt: '2024-01-01 00:00:00' })]);
  const index = indexName(here.indexPrefix, CONNECTORS.workflow_runs, TENANT, '2024.01');
  expect((await client.indices.getMapping({ index }))[index]!.mappings).toHaveProperty('dynamic', 'false');
  expect(await states(all())).toStrictEqual(['current', 'current', 'current', 'current']);
});
