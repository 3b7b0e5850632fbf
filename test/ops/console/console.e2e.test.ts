import { mkdirSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBrowser, openPage, overflow, shows, type Browser } from '../../support/browser.ts';
import { loadDataset } from '../../support/dify/generator.ts';
import { createDifySchema } from '../../support/dify/schema.ts';
import { lyingElasticsearch } from '../../support/faults/lying-elasticsearch.ts';
import { freePort } from '../../support/free-port.ts';
import { Pipeline } from '../../support/pipeline.ts';
import { isolate } from '../../support/servers.ts';

/*
 * The console in a real browser, over real servers. What was seen (first paint, bytes, pictures) is written to the folder
 * of DIFY_ES_CONSOLE_SEEN, where it is set: figures of a machine that is busy with tests are recorded and judge nothing.
 */
const here = isolate(import.meta.filename);
const pipeline = new Pipeline({ ...here.env, KAFKA_PARTITIONS: '2', WAL_BUDGET: '2GB', ELASTICSEARCH_INDEX_REFRESH: '1s' });
const HOSTILE = `"><img src=x onerror="window.hacked=1"><script>window.hacked=2</script>`;
const TOKEN = 'c0ffee-c0ffee-c0ffee';
let db: pg.Client;
let browser: Browser;
let hostileRun = '';
let url = '';

beforeAll(async () => {
  [db, browser] = await Promise.all([pipeline.connect(), openBrowser()]);
  await createDifySchema(db);
  await loadDataset(db, { seed: 29, tenants: 2, runs: 30, nodesPerRun: 3, months: ['2026-08', '2026-09'] });
  const { rows } = await db.query<{ id: string }>('SELECT id FROM workflow_runs ORDER BY created_at LIMIT 1');
  hostileRun = rows[0]!.id;
  const payload = JSON.stringify({ query: `quicksilver ${HOSTILE}`, [HOSTILE]: [HOSTILE], large: 0 }).replace('"large":0', '"large":12345678901234567890');
  await db.query("UPDATE workflow_runs SET inputs = $2, error = $3, status = 'failed' WHERE id = $1", [hostileRun, payload, HOSTILE]);
  await db.query('UPDATE workflow_node_executions SET title = $2, outputs = $3 WHERE workflow_run_id = $1', [hostileRun, HOSTILE, payload]);
  await pipeline.verb(['setup']);
  const port = await freePort();
  await pipeline.start('run', { env: { CONSOLE_PORT: String(port) } });
  url = `http://127.0.0.1:${port}/`;
});
afterAll(async () => {
  await browser?.close();
  await pipeline.killAll();
  await db?.end();
});

/** A request as no browser would send it: with any Host header. */
function ask(to: string, headers: Record<string, string>): Promise<{ status: number; headers: Record<string, unknown>; body: string }> {
  return new Promise((resolve, reject) => {
    httpRequest(to, { headers, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text)).once('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }));
    }).once('error', reject).end();
  });
}

function keep(name: string, content: string | Uint8Array): void {
  const folder = process.env['DIFY_ES_CONSOLE_SEEN'];
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, name), content);
}

describe('the console', () => {
  it('follows a migration live, finds a run and shows its nodes; what rows hold stays text, and nothing comes from elsewhere', async () => {
    const { page, seen } = await openPage(browser);
    await page.goto(url);
    await shows(page, 'Backfill required (first-run)', '#attention');
    await shows(page, 'reads the log', '[data-node="reader"]');
    const weight = seen.bytes;

    await pipeline.verb(['migrate']);
    await pipeline.drained();
    // 30 runs and logs, 90 nodes; the offloads are drawn by the generator
    const { rows } = await db.query<{ n: string }>('SELECT (SELECT count(*) FROM workflow_runs) + (SELECT count(*) FROM workflow_app_logs) + (SELECT count(*) FROM workflow_node_executions) + (SELECT count(*) FROM workflow_node_execution_offload) AS n');
    await shows(page, `${rows[0]!.n} docs`, '[data-node="elastic"]');
    await shows(page, 'What was written has arrived', '#headline');
    await shows(page, '100 %', '#backfill');
    await shows(page, '2 tenants', '#tenants');
    await shows(page, 'of 2.0 GB', '#wal');
    await shows(page, 'None: every row could be written', '#letters');
    await shows(page, 'Backfill done', '#events');

    await page.type('input[name="words"]', 'quicksilver');
    await page.select('select[name="status"]', 'failed');
    await page.click('#search button');
    await page.waitForFunction("document.querySelectorAll('.run-row').length === 1 && document.querySelector('.found-end')?.textContent.includes('1 run')");
    // The list may be drawn once more between the finding of a row and the click on it.
    await page.locator('.run-row').click();
    await shows(page, 'Node executions (3)', '#run');
    await shows(page, HOSTILE, '#run');
    await shows(page, '12345678901234567890', '#run');
    await page.click('.node-fold summary');
    await shows(page, 'quicksilver', '.node-body');
    expect(await page.evaluate("[typeof window.hacked, document.querySelectorAll('#run img, #run script').length]")).toEqual(['undefined', 0]);
    keep('run-1280-light.png', await page.screenshot());

    expect(seen.faults).toEqual([]);
    expect([...new Set(seen.urls.map((one) => new URL(one).origin))]).toEqual([new URL(url).origin]);
    expect(weight).toBeGreaterThan(20_000);
    expect(weight).toBeLessThan(300_000);
    const paints = await page.evaluate("performance.getEntriesByType('paint').map(({ name, startTime }) => name + ' ' + Math.round(startTime) + ' ms').join(', ')");
    keep('figures.txt', `${String(paints)}; ${weight} bytes uncompressed until everything was shown\n`);
    await page.close();
  });

  it.each(['light', 'dark'] as const)('scrolls in one direction alone at 390 px, with a run open too (%s)', async (scheme) => {
    const { page, seen } = await openPage(browser, 390, scheme);
    await page.goto(url);
    await shows(page, 'docs', '[data-node="elastic"]');
    await shows(page, '2 tenants', '#tenants');
    await shows(page, 'runs', '.found-end');
    expect(await overflow(page)).toBe(0);
    keep(`console-390-${scheme}.png`, await page.screenshot({ fullPage: true }));
    const ground = await page.evaluate('getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]');
    expect(Number(ground) < 128).toBe(scheme === 'dark');
    await page.type('input[name="words"]', hostileRun);
    await page.keyboard.press('Enter');
    await shows(page, '1 run', '.found-end');
    await page.click('.run-row');
    await shows(page, 'Node executions (3)', '#run');
    expect(await overflow(page)).toBe(0);
    await page.keyboard.press('Escape');
    await page.waitForSelector('#run:not([open])');
    expect(seen.faults).toEqual([]);
    await page.close();
  });

  it('answers no page that calls it by another name, and gives no other origin leave to read', async () => {
    const { port } = new URL(url);
    for (const path of ['', 'api/search', 'api/live']) expect([path, (await ask(`${url}${path}`, { host: `rebound.example:${port}` })).status]).toEqual([path, 403]);
    expect((await ask(`${url}api/search`, { host: `127.0.0.1:${port}`, 'sec-fetch-site': 'cross-site' })).status).toBe(403);
    const { status, headers } = await ask(`${url}api/search`, { host: `localhost:${port}`, origin: 'http://elsewhere.example' });
    expect(status).toBe(200);
    expect(Object.keys(headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
    expect(headers['content-security-policy']).toContain("default-src 'none'");
  });

  it('reads no index but runs and nodes of its prefix', async () => {
    for (const index of ['.security-7', '*', `${here.indexPrefix}-cdc-state`, `${here.indexPrefix}-workflow-runs-*`]) expect((await fetch(`${url}api/run?${new URLSearchParams({ index, id: hostileRun })}`)).status).toBe(404);
  });
});

describe('a console for other machines', () => {
  it('does not start without a token, and says what to do', async () => {
    const program = pipeline.spawn(['console', '--port', String(await freePort())], { env: { CONSOLE_HOST: '0.0.0.0' } });
    expect((await program.ended).code).toBe(2);
    expect(program.describe()).toContain('set CONSOLE_TOKEN or CONSOLE_TOKEN_FILE');
  });

  it('asks for its token, and shows a server that goes away and comes back', async () => {
    const port = await freePort();
    let between = await lyingElasticsearch(here.elasticsearchUrl);
    const { port: proxyPort } = new URL(between.url);
    const program = pipeline.spawn(['console', '--port', String(port)], { env: { CONSOLE_HOST: '0.0.0.0', CONSOLE_TOKEN: TOKEN, ELASTICSEARCH_HOSTS: JSON.stringify([between.url]) } });
    await program.said('serving the console');
    const at = `http://127.0.0.1:${port}/`;
    expect((await fetch(`${at}api/search`)).status).toBe(401);
    expect((await fetch(`${at}api/search`, { headers: { authorization: `Bearer ${TOKEN}x` } })).status).toBe(401);
    expect((await fetch(`${at}api/search`, { headers: { authorization: `Bearer ${TOKEN}` } })).status).toBe(200);

    const { page } = await openPage(browser);
    await page.goto(at);
    const enter = async (token: string): Promise<void> => {
      await page.type('input[name="token"]', token);
      // what is asked of a page that is just being left has no context to be answered in
      await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')]);
    };
    await enter('another-one-entirely');
    await shows(page, 'That is not the token');
    await enter(TOKEN);
    await shows(page, 'docs', '[data-node="elastic"]');

    await between.close();
    await shows(page, 'does not answer', '[data-node="elastic"]');
    await shows(page, 'Check ELASTICSEARCH_HOSTS', '#attention');
    keep('away-1280-light.png', await page.screenshot({ fullPage: true }));
    between = await lyingElasticsearch(here.elasticsearchUrl, Number(proxyPort));
    await shows(page, 'docs', '[data-node="elastic"]');
    await shows(page, 'Elasticsearch in order again', '#events');

    await program.stop();
    await shows(page, 'The console does not answer', '#headline');
    expect(program.describe(400)).not.toContain(TOKEN);
    await page.close();
    await between.close();
  });
});
