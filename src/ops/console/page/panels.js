import { ago, byId, h, meter, render, say } from './dom.js';
import { bytes, count, duration, perSecond, plural, share, since, tableName } from './format.js';

const lastValue = (seen) => (seen.state === 'seen' ? seen.value : seen.state === 'away' ? seen.last?.value : undefined);

/** On one broker a record is held for 3 s before it counts, and a slot is confirmed once a second. */
const LATE_SECONDS = 15;
/** A full disk that is months away is no figure, but noise. */
const SOON_SECONDS = 30 * 86_400;

/** One sentence on the whole. */
export function drawHead(flow, answers) {
  const [headline, subline] = sentence(flow, answers);
  say(byId('headline'), headline);
  say(byId('subline'), subline);
  const { slot, topicPrefix, indexPrefix } = flow.installation;
  say(byId('where'), [...new Set([indexPrefix, topicPrefix, slot])].join(' · '));
  document.title = flow.attention.some(({ level }) => level === 'fail') ? `(!) dify-es` : 'dify-es';
}

function sentence(flow, answers) {
  if (!answers) return ['The console does not answer', 'The program that serves this page has ended or cannot be reached. What you see is what it last said.'];
  const looks = [flow.source, flow.kafka, flow.elasticsearch];
  const bad = flow.attention.filter(({ level }) => level === 'fail');
  const elastic = lastValue(flow.elasticsearch);
  const documents = elastic ? `${count(elastic.documents)} documents in ${plural(elastic.indices, 'index', 'indices')}` : '';
  if (bad.length > 0) return [bad.length === 1 ? 'One thing needs attention' : `${bad.length} things need attention`, documents || 'Each is named below, with what to do.'];
  if (looks.some(({ state }) => state === 'unseen')) return ['Looking at the servers…', 'The first look takes a moment.'];
  const open = lastValue(flow.recorded)?.runs.find(({ state }) => state === 'open');
  if (open) return [`Backfill ${share(open.share)}`, [open.rowsPerSecond ? `${count(open.rowsPerSecond)} rows a second` : 'not moving', open.secondsLeft === null ? '' : `${duration(open.secondsLeft)} left`, documents].filter(Boolean).join(' · ')];
  const group = lastValue(flow.group);
  const behind = group && !group.drained ? group.tables.reduce((sum, table) => sum + table.behind, 0) : 0;
  // what was written this second is always on its way
  if (behind > 500) return [`${count(behind)} records are on their way`, documents];
  const lag = lastValue(flow.source)?.slot?.lagSeconds ?? 0;
  if (lag > LATE_SECONDS) return [`The reader is ${duration(lag)} behind`, documents];
  return [documents && elastic.documents > 0 ? 'What was written has arrived' : 'Nothing has arrived yet', documents];
}

export function drawAttention(findings) {
  byId('attention').hidden = findings.length === 0;
  render(byId('attention'), findings, (all) => all.map(({ level, subject, message, cure }) =>
    h('li', { class: `matter ${level}` }, h('span', { class: 'matter-mark', role: 'img', 'aria-label': level === 'fail' ? 'needs attention' : 'to be known' }), h('div', {}, h('p', {}, named(subject, message)), cure && h('p', { class: 'cure' }, cure)))));
}

/** The subject before the message, but not twice: some servers' messages begin with their name. */
function named(subject, message) {
  const rest = message.startsWith(subject) ? message.slice(subject.length) : ` ${message}`;
  return [h('b', {}, sentenceCase(subject)), rest];
}

const sentenceCase = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}`;

export function drawWal(flow) {
  const source = lastValue(flow.source);
  render(byId('wal'), [source?.wal, source?.slot?.name, flow.source.state], () => {
    if (!source) return empty(flow.source.state === 'away' ? 'PostgreSQL does not answer.' : 'Looking…');
    const { wal } = source;
    if (!wal) return empty(source.slot ? 'The slot holds nothing back.' : 'There is no slot.');
    const kind = { ok: 'ok', near: 'warn', past: 'bad', unlimited: 'warn' }[wal.level];
    const growth = wal.bytesPerSecond > 0 ? `grows ${bytes(wal.bytesPerSecond)}/s` : wal.bytesPerSecond < 0 ? `shrinks ${bytes(-wal.bytesPerSecond)}/s` : 'does not grow';
    return [
      h('p', { class: 'figure' }, h('b', {}, bytes(wal.retainedBytes)), h('span', {}, wal.limitBytes === null ? 'no limit' : `of ${bytes(wal.limitBytes)}`)),
      meter(wal.share ?? 0, kind, 'share of the budget'),
      h('p', { class: 'quiet' }, [wal.share === null ? 'Nothing keeps it from filling the disk' : share(wal.share), growth, wal.secondsLeft === null || wal.secondsLeft > SOON_SECONDS ? '' : `full in ${duration(wal.secondsLeft)}`].filter(Boolean).join(' · ')),
    ];
  });
}

export function drawBackfill(flow) {
  const recorded = lastValue(flow.recorded);
  render(byId('backfill'), [recorded?.runs[0], recorded?.required.length], () => {
    if (!recorded) return empty(flow.recorded.state === 'away' ? 'Kafka does not answer.' : 'Looking…');
    const [run] = recorded.runs;
    if (!run) return empty('None yet: what was there before the reader is still to be read by ', h('code', {}, 'dify-es migrate'), '.');
    const open = run.state === 'open';
    const words = open ? [run.rowsPerSecond === null ? '' : perSecond(run.rowsPerSecond).replace('/s', ' rows/s'), run.secondsLeft === null ? 'not moving' : `${duration(run.secondsLeft)} left`] : [run.state === 'done' ? 'done' : 'given up'];
    return [
      h('p', { class: 'figure' }, h('b', {}, share(run.share)), h('span', {}, words.filter(Boolean).join(' · '), open ? '' : ' ', open ? '' : ago(run.endedAt ?? run.startedAt, since))),
      meter(run.share, open ? 'busy' : 'ok', 'share of the backfill'),
      run.only && h('p', { class: 'quiet' }, `Only ${run.only}`),
      h('ul', { class: 'bars' }, run.tables.map((table) => h('li', {},
        h('span', { class: 'bar-name' }, tableName(table.table)), meter(table.share, open && table.share < 1 ? 'busy' : 'ok', tableName(table.table)),
        h('span', { class: 'bar-figure' }, open && table.share < 1 && table.secondsLeft ? duration(table.secondsLeft) : count(table.rows))))),
    ];
  });
}

export function drawLetters(seen) {
  const value = lastValue(seen);
  render(byId('letters'), value ?? seen.state, () => {
    if (!value) return empty(seen.state === 'away' ? 'Kafka does not answer.' : 'Looking…');
    const open = value.groups.filter((group) => group.open > 0);
    const settled = value.groups.reduce((sum, group) => sum + group.accepted + group.redriven, 0);
    if (open.length === 0) return empty(settled > 0 ? `None is open; ${count(settled)} are settled.` : 'None: every row could be written.');
    return [
      h('p', { class: 'figure' }, h('b', {}, count(value.open)), h('span', {}, 'open', settled > 0 ? ` · ${count(settled)} settled` : '')),
      h('ul', { class: 'causes' }, open.map(({ cause, table, open: many, oldestOpen, cure }) => h('li', {},
        h('p', {}, h('b', {}, count(many)), h('span', { class: 'cause' }, cause), h('span', { class: 'quiet' }, tableName(table), oldestOpen ? [', oldest ', ago(oldestOpen, since)] : '')),
        cure && h('p', { class: 'cure' }, cure)))),
    ];
  });
}

export function drawEvents(events) {
  render(byId('events'), events, (all) => {
    if (all.length === 0) return empty('Nothing has happened yet.');
    return h('ol', { class: 'events' }, all.map(({ at, level, subject, message, cure }) => h('li', { class: level },
      h('span', { class: 'event-mark', 'aria-hidden': 'true' }),
      h('div', {}, h('p', {}, named(subject, message)), cure && h('p', { class: 'cure' }, cure), h('p', { class: 'quiet' }, ago(at, since))))));
  });
}

const empty = (...words) => h('p', { class: 'empty' }, ...words);
