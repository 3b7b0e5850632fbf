import { ago, byId, h, render } from './dom.js';
import { bytes, count, plural, since } from './format.js';

const AT_FIRST = 8;
const STATES = { open: 'not looked at', ready: 'ready', switched: 'switched' };
let all = [];
let whole = false;

export function drawTenants(tenants) {
  all = tenants === null ? null : [...tenants].sort((a, b) => b.documents - a.documents || (a.tenantId < b.tenantId ? -1 : 1));
  draw();
  render(byId('tenant-list'), (all ?? []).map(({ tenantId }) => tenantId), (ids) => ids.map((id) => h('option', { value: id })));
}

function draw() {
  render(byId('tenants'), [all, whole], () => {
    if (all === null) return h('p', { class: 'empty' }, 'Looking…');
    if (all.length === 0) return h('p', { class: 'empty' }, 'None has a run yet.');
    const tally = ['ready', 'switched'].map((state) => [state, all.filter((tenant) => tenant.state === state).length]).filter(([, many]) => many > 0);
    const shown = whole ? all : all.slice(0, AT_FIRST);
    return [
      h('p', { class: 'quiet tally' }, [plural(all.length, 'tenant'), ...tally.map(([state, many]) => `${count(many)} ${state}`)].join(' · ')),
      h('ul', { class: 'tenants' }, shown.map(line)),
      all.length > AT_FIRST && h('button', { type: 'button', class: 'more', click: () => ((whole = !whole), draw()) }, whole ? 'Show fewer' : `Show all ${count(all.length)}`),
    ];
  });
}

function line({ tenantId, state, since: at, documents, bytes: size, indices, blocked }) {
  return h('li', { class: 'tenant-row' },
    h('span', { class: 'tenant-id', title: tenantId }, tenantId),
    h('span', { class: `chip ${blocked ? 'warn' : state}` }, blocked ? 'not yet' : STATES[state]),
    h('span', { class: 'tenant-figures' }, indices === 0 ? 'no index yet' : `${plural(documents, 'document')} · ${bytes(size)}`),
    h('span', { class: 'quiet tenant-next', title: blocked }, blocked ? 'after the backfill' : (at ? [state === 'ready' ? 'found ready ' : 'since ', ago(at, since)] : h('code', {}, `dify-es cutover --tenant-id ${tenantId.slice(0, 8)}…`))));
}
