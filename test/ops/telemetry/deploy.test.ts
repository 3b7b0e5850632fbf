import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { createMetrics } from '../../../src/ops/telemetry/metrics.ts';

const read = (path: string): string => readFileSync(join(import.meta.dirname, '../../../deploy', path), 'utf8');
interface Rule { alert: string; expr: string; annotations: { summary: string; action: string } }
const rules = (parse(read('prometheus/alerts.yml')) as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules);
const dashboard = JSON.parse(read('grafana/dify-es.json')) as { panels: { id: number; gridPos: { x: number; y: number; w: number; h: number }; targets: { expr: string }[] }[] };
const expressions = [...rules.map(({ expr }) => expr), ...dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))];

/** Names, and which labels each has, as the program exports them. */
const metrics = createMetrics();
const exported = new Map(metrics.registry.getMetricsAsArray().map((metric) => [metric.name, (metric as unknown as { labelNames: readonly string[] }).labelNames]));
const baseOf = (name: string): string => (exported.has(name) ? name : name.replace(/_(bucket|sum|count)$/, ''));

it('asks only for names that the program exports', () => {
  const asked = new Set(expressions.flatMap((expr) => expr.match(/\b(?:dify_es|process|nodejs)_[a-z0-9_]+/g) ?? []));
  expect(asked.size).toBeGreaterThan(15);
  expect([...asked].filter((name) => !exported.has(baseOf(name)))).toEqual([]);
});

it('asks only for labels that the metric has', () => {
  const wrong = expressions.flatMap((expr) =>
    [...expr.matchAll(/\b(dify_es_[a-z0-9_]+)\{([^}]*)\}/g)].flatMap(([, name, matchers]) =>
      [...matchers!.matchAll(/(\w+)\s*[=!]/g)].filter(([, label]) => !exported.get(baseOf(name!))?.includes(label!)).map(([, label]) => `${name} has no ${label}`)));
  expect(wrong).toEqual([]);
});

it('names what it measures as Prometheus asks: one prefix, counters end with _total, and no label of tenants or rows', () => {
  for (const metric of metrics.registry.getMetricsAsArray()) {
    if (/^(process|nodejs)_/.test(metric.name)) continue;
    expect(metric.name).toMatch(/^dify_es_[a-z_]+$/);
    expect([metric.name, metric.name.endsWith('_total')]).toEqual([metric.name, metric.constructor.name === 'Counter']);
    for (const label of exported.get(metric.name)!) expect(['part', 'table', 'op', 'outcome', 'status', 'cause', 'state', 'what']).toContain(label);
  }
});

it('says with each alert what to do', () => {
  for (const { alert, annotations } of rules) expect([alert, annotations.summary.length > 10, annotations.action.length > 10]).toEqual([alert, true, true]);
  expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
});

it('lays no panel over another', () => {
  const cells = dashboard.panels.flatMap(({ gridPos: { x, y, w, h } }) => Array.from({ length: w * h }, (_, at) => `${x + (at % w)},${y + Math.floor(at / w)}`));
  expect(new Set(cells).size).toBe(cells.length);
  expect(Math.max(...dashboard.panels.map(({ gridPos: { x, w } }) => x + w))).toBe(24);
});
