import { byId, h, render, s } from './dom.js';
import { perSecond } from './format.js';

const [WIDTH, HEIGHT] = [1000, 64];
const SPAN_MS = 10 * 60_000;

/** The last ten minutes: into Kafka and into Elasticsearch, a second. */
export function drawCurve(points) {
  render(byId('curve'), points, (all) => {
    const known = all.filter(([, published, indexed]) => published !== null || indexed !== null);
    if (known.length < 3) return [];
    const end = known.at(-1)[0];
    const begin = Math.max(end - SPAN_MS, known[0][0]);
    const top = Math.max(1, ...known.flatMap(([, published, indexed]) => [published ?? 0, indexed ?? 0])) * 1.1;
    const x = (at) => ((at - begin) / Math.max(1, end - begin)) * WIDTH;
    const y = (value) => HEIGHT - (value / top) * (HEIGHT - 2);
    const line = (which) => known.filter((point) => point[0] >= begin && point[which] !== null).map((point, i) => `${i === 0 ? 'M' : 'L'}${x(point[0]).toFixed(1)} ${y(point[which]).toFixed(1)}`).join('');
    const indexed = line(2);
    const now = known.at(-1);
    const minutes = Math.max(1, Math.round((end - begin) / 60_000));
    return [
      h('div', { class: 'legend' },
        h('span', { class: 'key published' }, 'into Kafka ', h('b', {}, perSecond(now[1] ?? 0))),
        h('span', { class: 'key indexed' }, 'into Elasticsearch ', h('b', {}, perSecond(now[2] ?? 0))),
        h('span', { class: 'quiet' }, `last ${minutes} min · peak ${perSecond(top / 1.1)}`)),
      s('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': 'Rates of the last minutes' },
        indexed && s('path', { class: 'area', d: `${indexed}L${x(end).toFixed(1)} ${HEIGHT}L${x(known.find((point) => point[0] >= begin && point[2] !== null)[0]).toFixed(1)} ${HEIGHT}Z` }),
        s('path', { class: 'line published', d: line(1), 'vector-effect': 'non-scaling-stroke' }),
        indexed && s('path', { class: 'line indexed', d: indexed, 'vector-effect': 'non-scaling-stroke' })),
    ];
  });
}
