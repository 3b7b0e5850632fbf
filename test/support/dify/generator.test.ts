import { describe, expect, test } from 'vitest';
import { copyLine } from './copy.ts';
import { monthsUntil, RunMaker, runsOf, type DatasetOptions, type RunBundle } from './generator.ts';
import { pythonDumps, RawJson } from './python-json.ts';
import { Random } from './random.ts';

const OPTIONS: DatasetOptions = { seed: 7, tenants: 5, runs: 300, months: ['2026-06', '2026-07', '2026-08'] };
const JSON_COLUMNS = ['graph', 'inputs', 'outputs', 'process_data', 'execution_metadata'];
const rowsOf = (bundles: RunBundle[]): Record<string, string | null>[] => bundles.flatMap(({ run, appLog, nodes, offload }) => [run, appLog, ...nodes, ...offload]);

describe('a generated data set', () => {
  const bundles = [...runsOf(OPTIONS)];
  const rows = rowsOf(bundles);

  test('is the same for the same seed and another for another', () => {
    expect(rowsOf([...runsOf(OPTIONS)])).toEqual(rows);
    expect(rowsOf([...runsOf({ ...OPTIONS, seed: 8, runs: 1 })])).not.toEqual(rowsOf(bundles.slice(0, 1)));
  });

  test('has 4 to 5 kB of text in an average row', () => {
    const bytes = rows.reduce((sum, row) => sum + Object.values(row).reduce((all, text) => all + Buffer.byteLength(text ?? ''), 0), 0);
    expect(bytes / rows.length).toBeGreaterThan(4000);
    expect(bytes / rows.length).toBeLessThan(5000);
  });

  test('has graphs of 6 to 10 kB, the same text for the runs of one workflow', () => {
    const graphs = bundles.map(({ run }) => run['graph']?.length ?? 0);
    expect(Math.min(...graphs)).toBeGreaterThanOrEqual(6000);
    expect(Math.max(...graphs)).toBeLessThanOrEqual(10_240);
    const byWorkflow = new Map<unknown, Set<unknown>>();
    for (const { run } of bundles) byWorkflow.set(run['workflow_id'], (byWorkflow.get(run['workflow_id']) ?? new Set()).add(run['graph']));
    expect([...byWorkflow.values()].every((texts) => texts.size === 1)).toBe(true);
  });

  test('has JSON as Python writes it: valid, escaped to ASCII, with blanks between tokens', () => {
    const texts = rows.flatMap((row) => JSON_COLUMNS.map((column) => row[column]).filter((text) => typeof text === 'string'));
    expect(texts.length).toBeGreaterThan(1000);
    for (const text of texts) expect(() => JSON.parse(text) as unknown).not.toThrow();
    expect(texts.filter((text) => /[^ -~]/.test(text))).toEqual([]);
    expect(texts.some((text) => /\\u[0-9a-f]{4}/.test(text))).toBe(true);
    expect(texts.some((text) => text.includes('": "') && text.includes('", "'))).toBe(true);
  });

  test('spreads over all tenants and stays in its months', () => {
    expect(new Set(rows.map((row) => row['tenant_id'])).size).toBe(5);
    expect([...new Set(rows.map((row) => row['created_at']?.slice(0, 7)))].sort()).toEqual([...OPTIONS.months]);
  });

  test('has five node executions and one log for a run, and some offload rows', () => {
    expect(bundles.every(({ run, appLog, nodes }) => nodes.length === 5 && appLog['workflow_run_id'] === run['id'] && nodes.every((node) => node['workflow_run_id'] === run['id']))).toBe(true);
    expect(bundles.flatMap(({ offload }) => offload).length).toBeGreaterThan(5);
    expect([...new Set(bundles[0]?.nodes.map((node) => node['node_type']))]).toEqual(['start', 'llm', 'knowledge-retrieval', 'code', 'end']);
  });

  test.each([2500, 9000])('has rows of about %i bytes when that was asked for', (rowSize) => {
    const sized = rowsOf([...runsOf({ ...OPTIONS, rowSize })]);
    const bytes = sized.reduce((sum, row) => sum + Object.values(row).reduce((all, text) => all + (text?.length ?? 0), 0), 0);
    expect(Math.abs(bytes / sized.length / rowSize - 1)).toBeLessThan(0.15);
  });
});

test('more nodes than kinds are taken in turns, and a second maker writes for given tenants', () => {
  const tenant = new Random(1).uuid();
  const maker = new RunMaker({ seed: 3, tenants: 9, tenantIds: [tenant], nodesPerRun: 12 });
  const bundle = maker.bundle(4, Date.UTC(2026, 0, 1));
  expect(bundle.nodes).toHaveLength(12);
  expect(bundle.nodes.every((node) => node['tenant_id'] === tenant)).toBe(true);
});

test('months are counted back from the last one, over the turn of a year', () => {
  expect(monthsUntil('2026-02', 4)).toEqual(['2025-11', '2025-12', '2026-01', '2026-02']);
  expect(() => monthsUntil('2026-13', 1)).toThrow(RangeError);
});

test('JSON is dumped as Python dumps it', () => {
  const text = pythonDumps({ a: [1, null, true], 'é': '🙂"\\\n\u2028\u007f', f: new RawJson('1e-05'), empty: {}, list: [] });
  expect(text).toBe('{"a": [1, null, true], "\\u00e9": "\\ud83d\\ude42\\"\\\\\\n\\u2028\u007f", "f": 1e-05, "empty": {}, "list": []}');
});

test('a line of COPY escapes what COPY reads as its own', () => {
  expect(copyLine(['a', 'b', 'c', 'd'], { a: '', b: null, c: '\\N\t\n\r', d: 'x' })).toBe('\t\\N\t\\\\N\\t\\n\\r\tx\n');
});

test('uuids are of version 4 and do not repeat', () => {
  const random = new Random(5);
  const ids = Array.from({ length: 20_000 }, () => random.uuid());
  expect(new Set(ids).size).toBe(ids.length);
  expect(ids.every((id) => /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id))).toBe(true);
});
