import { h } from './dom.js';

/** The answer, or its error: what went wrong is always said. */
export async function ask(path) {
  try {
    const response = await fetch(path, { headers: { accept: 'application/json' } });
    if (response.status === 401) location.reload();
    return await response.json();
  } catch {
    return { error: { message: 'The console does not answer', cure: 'Is the program that serves this page still running?' } };
  }
}

export function trouble({ message, cure }) {
  return h('div', { class: 'matter fail', role: 'alert' }, h('span', { class: 'matter-mark' }), h('div', {}, h('p', {}, h('b', {}, message)), h('p', { class: 'cure' }, cure)));
}

const KINDS = { succeeded: 'good', 'partial-succeeded': 'half', failed: 'failed', exception: 'failed', running: 'busy', stopped: 'still', paused: 'still' };
export const statusChip = (status) => h('span', { class: `chip run-${KINDS[status] ?? 'still'}` }, status ?? 'unknown');
