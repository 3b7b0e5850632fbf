import { byId, s, say } from './dom.js';
import { bytes, count, duration, fewSigns, perSecond, plural, share } from './format.js';

/*
 * The picture: five places in a row and the backfill's way beside the reader's. It is drawn once for a width; after that
 * only texts and states change, so that what moves on the arrows does not begin anew with each message.
 */

const NARROW = matchMedia('(max-width: 860px)');

const WIDE = {
  box: [1120, 236],
  nodes: {
    source: [0, 18, 180, 92], reader: [252, 18, 180, 92], kafka: [504, 18, 180, 92], sinks: [722, 18, 180, 92], elastic: [940, 18, 180, 92],
    backfill: [252, 144, 180, 92],
  },
  edges: {
    wal: { path: 'M180 64H252', label: [216, 46, 'middle'] },
    published: { path: 'M432 64H504', label: [468, 46, 'middle'] },
    settled: { path: 'M684 64H722', label: null },
    indexed: { path: 'M902 64H940', label: null },
    read: { path: 'M90 110V166Q90 190 114 190H252', label: [172, 180, 'middle'] },
    filled: { path: 'M432 190H570Q594 190 594 166V110', label: null },
  },
};

const TALL = {
  box: [358, 630],
  nodes: {
    source: [0, 0, 358, 78], reader: [0, 126, 172, 104], backfill: [186, 126, 172, 104], kafka: [0, 278, 358, 78], sinks: [0, 404, 358, 78], elastic: [0, 530, 358, 78],
  },
  edges: {
    wal: { path: 'M86 78V126', label: [98, 106, 'start'] },
    read: { path: 'M272 78V126', label: [284, 106, 'start'] },
    published: { path: 'M86 230V278', label: [98, 258, 'start'] },
    filled: { path: 'M272 230V278', label: null },
    settled: { path: 'M179 356V404', label: [191, 384, 'start'] },
    indexed: { path: 'M179 482V530', label: [191, 510, 'start'] },
  },
};

const TITLES = { source: 'PostgreSQL', reader: 'Reader', backfill: 'Backfill', kafka: 'Kafka', sinks: 'Sinks', elastic: 'Elasticsearch' };
const EXPLAINED = {
  wal: 'Bytes of the log that the reader has confirmed, a second',
  read: 'Rows that the backfill reads, a second',
  published: 'Records into Kafka a second, as its offsets count them: the marker of each transaction is one too',
  settled: 'Records that the sinks have settled, a second, as Kafka\'s offsets count them',
  indexed: 'Writes and deletes in Elasticsearch, a second',
};

let parts;
let last;

export function startFlow() {
  NARROW.addEventListener('change', () => {
    build();
    if (last) update(last);
  });
  build();
}

function build() {
  const layout = NARROW.matches ? TALL : WIDE;
  const [width, height] = layout.box;
  parts = { nodes: {}, edges: {} };
  const root = s('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': 'From PostgreSQL through Kafka to Elasticsearch' });
  for (const [name, { path, label }] of Object.entries(layout.edges)) {
    const moving = s('path', { d: path, class: 'moving' });
    const text = label && s('text', { x: label[0], y: label[1], class: 'rate', 'text-anchor': label[2] });
    const group = s('g', { class: 'edge' }, s('path', { d: path, class: 'way' }), moving, text, EXPLAINED[name] && s('title', {}, EXPLAINED[name]));
    parts.edges[name] = { group, text };
    root.append(group);
  }
  for (const [name, [x, y, w, h]] of Object.entries(layout.nodes)) {
    const lines = [s('text', { x: x + 16, y: y + 50, class: 'line' }), s('text', { x: x + 16, y: y + 70, class: 'line soft' })];
    if (h > 100) for (const [i, line] of lines.entries()) line.setAttribute('y', y + 54 + i * 22);
    const group = s('g', { class: 'node', 'data-state': 'wait', 'data-node': name },
      s('rect', { x: x + 0.5, y: y + 0.5, width: w - 1, height: h - 1, rx: 12 }),
      s('circle', { cx: x + w - 18, cy: y + 22, r: 4.5, class: 'light' }),
      s('text', { x: x + 16, y: y + 27, class: 'name' }, TITLES[name]), lines);
    parts.nodes[name] = { group, lines };
    root.append(group);
  }
  byId('flow').replaceChildren(root);
}

export function update(flow) {
  last = flow;
  node('source', flow.source, ofSource);
  node('reader', flow.source, ofReader, 'PostgreSQL');
  node('backfill', flow.kafka.state === 'away' ? flow.kafka : flow.recorded, ofBackfill, 'Kafka');
  node('kafka', flow.kafka, (kafka) => ofKafka(kafka, flow.group));
  node('sinks', flow.kafka.state === 'away' ? flow.kafka : flow.group, (group) => ofSinks(group, flow.parts), 'Kafka');
  node('elastic', flow.elasticsearch, ofElastic);
  const { rates } = flow;
  // the log of an idle PostgreSQL moves by some bytes too
  edge('wal', rates.wal !== null && rates.wal < 256 ? 0 : rates.wal, bytes, 64 * 1024);
  edge('published', rates.published, perSecond, 500);
  edge('settled', rates.settled, perSecond, 500);
  edge('indexed', rates.indexed, perSecond, 500);
  edge('read', rates.backfill, perSecond, 500);
  edge('filled', rates.backfill, perSecond, 500);
}

/** `told`: the server by which the place is known, where it is no server itself. */
function node(name, seen, describe, told) {
  const { group, lines } = parts.nodes[name];
  const [state, first, second] = seen.state === 'seen' ? describe(seen.value) : seen.state === 'unseen' ? ['wait', 'looking…', ''] : told ? ['wait', 'not known', `${told} does not say`] : ['bad', 'does not answer', `since ${new Date(seen.since).toLocaleTimeString()}`];
  group.dataset.state = state;
  say(lines[0], first);
  say(lines[1], second);
}

function edge(name, rate, format, fast) {
  const { group, text } = parts.edges[name];
  const moves = rate !== null && rate >= 0.05;
  group.dataset.speed = moves ? (rate > fast ? 'fast' : 'slow') : 'still';
  if (text) say(text, moves ? (format === bytes ? `${bytes(rate)}/s` : format(rate)) : '');
}

function ofSource({ version, tables }) {
  const broken = tables.filter(({ published, identityUsable }) => !published || !identityUsable).length;
  return [broken > 0 ? 'bad' : 'ok', version, broken > 0 ? `${plural(broken, 'table')} in trouble` : `${plural(tables.length, 'table')} of Dify`];
}

function ofReader({ slot }) {
  if (!slot) return ['bad', 'no slot', 'run dify-es setup'];
  if (slot.walStatus === 'lost' || slot.invalidation) return ['bad', 'the slot is lost', slot.invalidation ?? ''];
  const lag = slot.lagBytes === null ? 'lag unknown' : slot.lagBytes === 0 ? 'nothing waits' : `${bytes(slot.lagBytes)}${slot.lagSeconds ? ` · ${duration(slot.lagSeconds)}` : ''} behind`;
  return slot.active ? ['ok', 'reads the log', lag] : ['bad', 'nobody reads', lag];
}

function ofBackfill({ runs, required }) {
  const open = runs.find(({ state }) => state === 'open');
  if (open) return ['busy', `${share(open.share)} read`, open.secondsLeft === null ? 'not moving' : `${duration(open.secondsLeft)} left`];
  if (required.length > 0) return ['warn', 'required', `${plural(required.length, 'table')}`];
  const done = runs.find(({ state }) => state === 'done');
  return done ? ['ok', 'done', `${done.endedAt.slice(0, 10)}`] : ['wait', 'none yet', ''];
}

function ofKafka({ brokers, topics }, group) {
  const missing = topics.filter(({ exists }) => !exists).length;
  const behind = group.state === 'seen' ? waiting(group.value) : null;
  const second = missing > 0 ? `${plural(missing, 'topic')} missing` : behind === null ? '' : behind === 0 ? 'nothing waits' : `${count(behind)} waiting`;
  return [missing > 0 ? 'bad' : 'ok', `${plural(brokers, 'broker')} · ${plural(topics.length - missing, 'topic')}`, second];
}

const waiting = ({ drained, tables }) => (drained ? 0 : tables.reduce((sum, { behind }) => sum + behind, 0));

/** `parts`: of the process that serves this page, which may be a sink itself. */
function ofSinks(group, parts) {
  const behind = waiting(group);
  const own = parts.find(({ part, ready }) => part === 'sink' && !ready);
  if (own && own.why !== 'starting') return ['warn', own.why, `${count(behind)} to settle`];
  if (group.members === 0) return [behind > 0 ? 'bad' : 'warn', 'none is running', behind > 0 ? `${count(behind)} waiting` : ''];
  return [behind > 0 ? 'busy' : 'ok', plural(group.members, 'member'), behind > 0 ? `${count(behind)} to settle` : 'all settled'];
}

function ofElastic({ version, health, documents, bytes: size }) {
  const state = health === 'red' ? 'bad' : health === 'yellow' ? 'warn' : 'ok';
  return [state, `${version} · ${health}`, `${fewSigns(documents)} docs · ${bytes(size)}`];
}
