import { ask, statusChip, trouble } from './ask.js';
import { byId, h } from './dom.js';
import { elapsed, plural, utc } from './format.js';
import { openRun } from './run.js';

const FIRST = 10;
const MOST = 1_000;
/** Answers may come out of order: only the newest search is shown. */
let asked = 0;

export function startRuns() {
  const form = byId('search');
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    find(FIRST);
  });
  form.addEventListener('change', (event) => event.target.name !== 'words' && find(FIRST));
  addEventListener('hashchange', follow);
  find(FIRST);
  follow();
}

/** `#run/<index>/<id>`: a run has an address, to be kept or sent. */
function follow() {
  const [, index, id] = /^#run\/([^/]+)\/([^/]+)$/.exec(decodeURIComponent(location.hash)) ?? [];
  if (index && id) openRun(index, id);
  else byId('run').close();
}

async function find(limit) {
  const mine = ++asked;
  const data = new FormData(byId('search'));
  const query = new URLSearchParams({ words: data.get('words'), tenant: data.get('tenant'), status: data.get('status'), limit });
  const place = byId('found');
  place.dataset.state = 'looking';
  if (place.childElementCount === 0) place.append(h('p', { class: 'empty' }, 'Searching…'));
  const answer = await ask(`api/search?${query}`);
  if (mine !== asked) return;
  place.dataset.state = answer.error ? 'error' : 'found';
  place.replaceChildren(...(answer.error ? [trouble(answer.error)] : results(answer, data.get('words').trim() !== '', limit)));
}

function results({ runs, complete, indices }, byWords, limit) {
  if (runs.length === 0) {
    return [h('p', { class: 'empty' }, indices === 0 ? 'There is no run in Elasticsearch yet.' : `Nothing fits in ${plural(indices, 'index', 'indices')}. A run is found once its index was refreshed, up to 30 s after it was written.`)];
  }
  const more = !complete && limit < MOST;
  return [
    h('div', { class: `run-head ${byWords ? '' : 'all'}`, 'aria-hidden': 'true' }, ['Created (UTC)', 'Status', 'Run', 'Tenant', 'Took', 'Found in'].map((text) => h('span', {}, text))),
    h('ul', { class: `run-list ${byWords ? '' : 'all'}` }, runs.map((run) => h('li', {}, row(run)))),
    h('p', { class: 'quiet found-end' }, complete ? plural(runs.length, 'run') : `The newest ${plural(runs.length, 'run')}; there are more. `,
      more && h('button', { type: 'button', class: 'more', click: () => find(Math.min(MOST, limit * 4)) }, 'Show more')),
  ];
}

function row({ runId, tenantId, status, createdAt, elapsedTime, index, inRun, nodes }) {
  const places = [inRun && 'the run', nodes.length > 0 && plural(nodes.length, 'node')].filter(Boolean).join(', ');
  return h('a', { class: 'run-row', href: `#run/${encodeURIComponent(index)}/${encodeURIComponent(runId)}` },
    h('span', { class: 'when' }, utc(createdAt)),
    h('span', {}, statusChip(status)),
    h('span', { class: 'mono run-id' }, runId),
    h('span', { class: 'mono soft tenant-of' }, tenantId),
    h('span', { class: 'took' }, elapsedTime === null ? '–' : elapsed(elapsedTime)),
    h('span', { class: 'soft places' }, places));
}
