import { ask, statusChip, trouble } from './ask.js';
import { byId, h } from './dom.js';
import { bytes, count, elapsed, utc } from './format.js';
import { jsonView, parseJson } from './json.js';

/* One run and its node executions: the only part of the page that shows what rows hold. */

const FACTS = [
  ['id', 'Run'], ['tenant_id', 'Tenant'], ['app_id', 'App'], ['workflow_id', 'Workflow'], ['type', 'Type'], ['triggered_from', 'Triggered from'], ['version', 'Version'],
  ['created_by_role', 'By'], ['created_by', 'Whose id is'], ['created_at', 'Created (UTC)'], ['finished_at', 'Finished (UTC)'], ['total_steps', 'Steps'], ['total_tokens', 'Tokens'], ['exceptions_count', 'Exceptions'],
];
const OWN = new Set([...FACTS.map(([name]) => name), 'status', 'elapsed_time', 'inputs', 'outputs', 'error', 'graph']);
const BODY = ['inputs', 'process_data', 'outputs', 'metadata'];
const OF_NODE = new Set(['id', 'tenant_id', 'app_id', 'workflow_id', 'workflow_execution_id', 'index', 'node_type', 'title', 'status', 'elapsed_time', 'error', ...BODY]);
let opened;

export async function openRun(index, id) {
  const dialog = byId('run');
  const mine = (opened = `${index}/${id}`);
  dialog.onclose = () => {
    if (location.hash.startsWith('#run/')) history.replaceState(null, '', location.pathname + location.search);
  };
  // a click beside it closes it, as Escape does; a handler that returned false would keep every fold within it shut
  dialog.onclick = (event) => {
    if (event.target === dialog) dialog.close();
  };
  dialog.replaceChildren(frame(null, h('p', { class: 'empty' }, 'Reading…')));
  if (!dialog.open) dialog.showModal();
  const answer = await ask(`api/run?${new URLSearchParams({ index, id })}`);
  if (opened !== mine) return;
  dialog.replaceChildren(answer.error ? frame(null, trouble(answer.error)) : frame(...detail(answer)));
  dialog.scrollTop = 0;
}

function frame(title, ...content) {
  const close = h('button', { type: 'button', class: 'close', 'aria-label': 'Close', click: () => byId('run').close() }, '✕');
  return h('article', {}, h('header', { class: 'run-top' }, h('div', { class: 'run-title' }, title ?? 'Run'), close), h('div', { class: 'run-body' }, content));
}

function detail({ run, nodes, complete }) {
  const fields = parseJson(run.source);
  const text = (name) => scalar(fields.get(name));
  const took = text('elapsed_time');
  return [
    [statusChip(text('status')), h('span', { class: 'when' }, utc(text('created_at'))), took && h('span', { class: 'soft' }, elapsed(Number(took)))],
    fields.has('error') && errorOf(text('error')),
    h('section', {}, h('h3', {}, 'Inputs'), jsonView(fields.get('inputs'))),
    h('section', {}, h('h3', {}, 'Outputs'), jsonView(fields.get('outputs'))),
    h('section', {}, h('h3', {}, `Node executions (${count(nodes.length)}${complete ? '' : ', and more'})`),
      nodes.length === 0 ? h('p', { class: 'empty' }, 'None is in Elasticsearch yet. They are found once their index was refreshed.') : h('ol', { class: 'nodes' }, nodes.map(node))),
    h('section', {}, h('h3', {}, 'About it'), h('dl', { class: 'facts' }, FACTS.flatMap(([name, label]) => fact(label, name.endsWith('_at') ? utc(text(name)) : text(name), /_id$|^id$|_by$/.test(name))), others(fields, OWN),
      fact('Index', run.index, true), fact('Version', `${run.version} (${BigInt(run.version) < 2n ** 52n ? 'written by Dify' : 'from PostgreSQL'})`))),
    h('details', { class: 'fold' }, h('summary', {}, 'Graph ', h('span', { class: 'soft' }, bytes(run.source.length), ' of the whole document')), lazily(() => jsonView(fields.get('graph')))),
  ];
}

/** Drawn when it is opened: a graph has thousands of lines that few look at. */
function lazily(draw) {
  const place = h('div', {});
  queueMicrotask(() => place.parentElement?.addEventListener('toggle', () => place.childElementCount === 0 && place.append(draw()), { once: true }));
  return place;
}

function node({ index, id, title, nodeType, status, elapsedTime, position }) {
  const place = h('div', { class: 'node-body' }, h('p', { class: 'empty' }, 'Reading…'));
  const fold = h('details', { class: 'node-fold' },
    h('summary', {}, h('span', { class: 'node-number' }, position ?? '–'), h('span', { class: 'node-title' }, title ?? id), h('span', { class: 'soft node-type' }, nodeType ?? ''), h('span', { class: 'took' }, elapsedTime === null ? '' : elapsed(elapsedTime)), statusChip(status)),
    place);
  fold.addEventListener('toggle', async () => {
    const answer = await ask(`api/node?${new URLSearchParams({ index, id })}`);
    place.replaceChildren(...(answer.error ? [trouble(answer.error)] : nodeBody(parseJson(answer.source))));
  }, { once: true });
  return h('li', {}, fold);
}

function nodeBody(fields) {
  return [
    fields.has('error') && errorOf(scalar(fields.get('error'))),
    ...BODY.filter((name) => fields.has(name)).map((name) => h('section', {}, h('h4', {}, name.replace('_', ' ')), jsonView(fields.get(name)))),
    h('dl', { class: 'facts' }, fact('Node execution', scalar(fields.get('id')), true), others(fields, OF_NODE)),
  ].filter(Boolean);
}

const errorOf = (text) => text && h('section', { class: 'error-text' }, h('h3', {}, 'Error'), h('pre', {}, text));

/** What no list here names: columns of a newer Dify are carried too. */
function others(fields, known) {
  return [...fields].filter(([name]) => !known.has(name)).flatMap(([name, value]) => fact(name.replaceAll('_', ' '), scalar(value) ?? jsonView(value), name.endsWith('_id')));
}

function fact(label, value, isId = false) {
  return value === null || value === undefined || value === '' || value === '–' ? [] : [h('dt', {}, label), h('dd', { class: isId ? 'mono' : null }, value)];
}

/** The text of a string, number or word; null for what has parts. */
function scalar(value) {
  if (value === undefined || value instanceof Map || Array.isArray(value)) return null;
  return typeof value === 'string' ? value : value.raw === 'null' ? null : value.raw;
}
