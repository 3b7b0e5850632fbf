import { beforeAll, describe, expect, it } from 'vitest';
import type { SearchRequest } from '../../../src/ops/search/query.ts';
import { searchRuns } from '../../../src/ops/search/search.ts';
import { TENANT } from '../../pipeline/sink/documents-of.ts';
import { clientOf, harness, Log, newId, putTemplates } from '../../pipeline/sink/sink-harness.ts';
import { isolate } from '../../support/servers.ts';

const here = isolate(import.meta.filename);
const client = clientOf(here.elasticsearchUrl);
const OTHER = '99999999-2222-4333-8444-555555555555';
const [september, october, japanese, ofOther, foreign, ofNodes] = [newId(), newId(), newId(), newId(), newId(), newId()];
const node = newId();

const find = async (words: string[], rest: Partial<SearchRequest> = {}) => {
  const result = await searchRuns(client, here.indexPrefix, { words, tenantIds: [TENANT], status: null, from: null, before: null, limit: 20, ...rest });
  return { ...result, ids: result.runs.map(({ runId }) => runId) };
};

beforeAll(async () => {
  const farther = `${here.indexPrefix}-more`;
  await putTemplates(client, here.indexPrefix);
  await putTemplates(client, farther);
  const runs = new Log('workflow_runs');
  const nodes = new Log('workflow_node_executions');
  const own = harness(client, runs, here.indexPrefix);
  await own.handle(runs, [
    runs.row(september, 1, { status: 'succeeded', inputs: '{"query":"an invoice for Zürich"}', outputs: '{}', error: null }, { createdAt: '2025-09-30 23:59:59.5' }),
    runs.row(october, 1, { status: 'failed', inputs: '{"query":"another"}', outputs: '{"text":"the INVOICE was lost"}', error: null }, { createdAt: '2025-10-01 00:00:00' }),
    runs.row(japanese, 1, { status: 'succeeded', inputs: '{"query":"明日の天気予報"}', outputs: '{}', error: null }),
    runs.row(ofOther, 1, { status: 'succeeded', inputs: '{"query":"an invoice"}', outputs: '{}', error: null }, { tenantId: OTHER }),
    runs.row(ofNodes, 1, { status: 'failed', inputs: '{}', outputs: '{}', error: null }, { createdAt: '2025-10-31 23:59:00' }),
  ]);
  await harness(client, nodes, here.indexPrefix).handle(nodes, [
    nodes.row(node, 1, { workflow_run_id: ofNodes, inputs: '{"q":"Rückfrage"}', outputs: '{}', error: null, title: 'LLM', status: 'succeeded' }, { createdAt: '2025-11-01 00:01:00' }),
    nodes.row(newId(), 1, { workflow_run_id: null, inputs: '{"q":"Rückfrage"}', outputs: '{}', error: null, title: 'debugged alone', status: 'succeeded' }),
  ]);
  await harness(client, runs, farther).handle(runs, [runs.row(foreign, 1, { status: 'succeeded', inputs: '{"query":"an invoice"}', outputs: '{}', error: null })]);
  await client.transport.request({ method: 'POST', path: `/${here.indexPrefix}*/_refresh` });
});

describe('search', () => {
  it('finds runs of a tenant over its months by words of inputs and outputs, the newest first', async () => {
    const found = await find(['invoice']);
    expect(found.ids).toEqual([october, september]);
    expect(found).toMatchObject({ complete: true, runs: [{ status: 'failed', tenantId: TENANT, inRun: true }, { status: 'succeeded' }] });
    expect((await find(['invoice', 'zürich'])).ids).toEqual([september]);
    expect((await find(['invoice', 'nowhere'])).ids).toEqual([]);
  });

  it('finds words that are not ASCII, and not the same characters in another order', async () => {
    expect((await find(['天気予報'])).ids).toEqual([japanese]);
    expect((await find(['予報天気'])).ids).toEqual([]);
  });

  it('reports the run of a node execution, also across the end of a month', async () => {
    const found = await find(['rückfrage']);
    expect(found.runs).toMatchObject([{ runId: ofNodes, inRun: false, nodes: [node], createdAt: '2025-10-31T23:59:00' }]);
    expect((await find(['rückfrage'], { before: '2025-11-01 00:00:00' })).ids).toEqual([ofNodes]);
    expect((await find(['rückfrage'], { from: '2025-11-01 00:00:00' })).ids).toEqual([]);
    expect((await find(['rückfrage'], { status: 'succeeded' })).ids).toEqual([]);
  });

  it('narrows by status, dates and limit, and says when there are more', async () => {
    expect((await find(['invoice'], { status: 'failed' })).ids).toEqual([october]);
    expect((await find(['invoice'], { before: '2025-10-01 00:00:00' })).ids).toEqual([september]);
    expect(await find(['invoice'], { limit: 1 })).toMatchObject({ ids: [october], complete: false });
  });

  it('finds all tenants of the prefix, and nothing of a prefix that begins with the same letters', async () => {
    const { ids } = await find(['invoice'], { tenantIds: [] });
    expect([...ids].sort()).toEqual([september, october, ofOther].sort());
  });

  it('takes more indices than fit into the first line of a request', async () => {
    const runs = new Log('workflow_runs');
    const own = harness(client, runs, here.indexPrefix);
    const months = Array.from({ length: 60 }, (_, at) => `${1990 + Math.floor(at / 12)}-${String((at % 12) + 1).padStart(2, '0')}-02 00:00:00`);
    await own.handle(runs, months.map((createdAt) => runs.row(newId(), 1, { inputs: '{"query":"manymonths"}', outputs: '{}', error: null }, { createdAt })));
    await client.transport.request({ method: 'POST', path: `/${here.indexPrefix}-*/_refresh` });
    const found = await find(['manymonths'], { limit: 100 });
    expect(found.ids).toHaveLength(60);
    expect(found.complete).toBe(true);
  });
});
