import { byId, say } from './dom.js';
import { drawCurve } from './curve.js';
import { since } from './format.js';
import { startFlow, update } from './flow.js';
import { drawAttention, drawBackfill, drawEvents, drawHead, drawLetters, drawWal } from './panels.js';
import { startRuns } from './runs.js';
import { drawTenants } from './tenants.js';

/* Follows the program by server-sent events, one section a message, while the page is seen. */

const AGAIN_MS = 2_000;
let source;
let flow;
let answers = true;
let heardAt = 0;

const draw = {
  flow(data) {
    flow = data;
    update(data);
    drawHead(data, true);
    drawAttention(data.attention);
    drawWal(data);
    drawBackfill(data);
  },
  letters: drawLetters,
  tenants: drawTenants,
  events: drawEvents,
  curve: drawCurve,
};

function connect() {
  if (source || document.hidden) return;
  source = new EventSource('api/live');
  for (const [name, take] of Object.entries(draw)) {
    source.addEventListener(name, (event) => {
      heard();
      take(JSON.parse(event.data));
    });
  }
  source.addEventListener('error', lost);
}

function heard() {
  heardAt = Date.now();
  if (!answers && flow) drawHead(flow, true);
  answers = true;
  pulse('live', 'live');
}

/** The program has ended, or wants its token again; only asking tells. */
async function lost() {
  disconnect();
  const status = await fetch('api/ping').then((response) => response.status, () => 0);
  if (status === 401) return location.reload();
  answers = false;
  pulse('lost', 'no answer');
  if (flow) drawHead(flow, false);
  else {
    say(byId('headline'), 'The console does not answer');
    say(byId('subline'), 'The program that serves this page has ended or cannot be reached.');
  }
  setTimeout(connect, AGAIN_MS);
}

function disconnect() {
  source?.close();
  source = undefined;
}

function pulse(state, text) {
  byId('pulse').dataset.state = state;
  document.body.dataset.answers = String(state === 'live');
  say(byId('pulse'), text);
}

/** A hidden page asks for nothing: the program then looks at the servers more seldom. */
document.addEventListener('visibilitychange', () => (document.hidden ? disconnect() : connect()));

setInterval(() => {
  for (const time of document.querySelectorAll('time[data-ago]')) say(time, since(Number(time.dataset.ago)));
  if (answers && heardAt > 0 && !document.hidden && Date.now() - heardAt > 12_000) pulse('wait', `quiet for ${Math.round((Date.now() - heardAt) / 1000)} s`);
}, 5_000);

startFlow();
startRuns();
connect();
