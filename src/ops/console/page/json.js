import { h } from './dom.js';
import { count } from './format.js';

/*
 * JSON as it was stored. JSON.parse would round integers beyond 2^53 and drop one of two equal keys; here a number stays
 * its digits, and a document is shown as text, never as markup.
 */

const DEEPEST = 900;

/** Objects as Maps, strings as strings, everything else as `{ raw }`. Throws a SyntaxError. */
export function parseJson(text) {
  let at = 0;
  const blank = /[ \t\r\n]*/y;
  const string = /"(?:[^"\\]|\\.)*"/sy;
  const word = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;
  const next = (pattern) => {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match) at = pattern.lastIndex;
    return match?.[0];
  };
  const fail = () => {
    throw new SyntaxError(`no JSON at ${at}`);
  };
  const expect = (sign) => (next(blank), text[at] === sign ? ++at : fail());
  const list = (end, take) => {
    at++;
    next(blank);
    if (text[at] === end) return void at++;
    for (;;) {
      take();
      next(blank);
      if (text[at] === end) return void at++;
      if (text[at++] !== ',') fail();
    }
  };
  const value = (depth) => {
    if (depth > DEEPEST) fail();
    next(blank);
    if (text[at] === '"') return JSON.parse(next(string) ?? fail());
    if (text[at] === '[') {
      const items = [];
      list(']', () => items.push(value(depth + 1)));
      return items;
    }
    if (text[at] === '{') {
      const members = new Map();
      list('}', () => {
        next(blank);
        const key = JSON.parse(next(string) ?? fail());
        expect(':');
        members.set(key, value(depth + 1));
      });
      return members;
    }
    return { raw: next(word) ?? fail() };
  };
  const found = value(0);
  next(blank);
  return at === text.length ? found : fail();
}

const OPEN_DEPTH = 2;
const SHOWN_MEMBERS = 100;
const SHOWN_TEXT = 1_200;

export function jsonView(value) {
  if (value === undefined) return h('p', { class: 'empty' }, 'none');
  if (value instanceof Map && value.size === 1 && typeof value.get('_invalid_json') === 'string') {
    return h('div', { class: 'json' }, h('p', { class: 'quiet' }, 'This is no valid JSON and was kept as it is:'), textOf(value.get('_invalid_json')));
  }
  if (sizeOf(value) === 0) return h('p', { class: 'empty' }, value instanceof Map || Array.isArray(value) ? 'empty' : 'none');
  return h('div', { class: 'json' }, part(value, 0));
}

const sizeOf = (value) => (value instanceof Map ? value.size : Array.isArray(value) ? value.length : value.raw === 'null' ? 0 : 1);

function part(value, depth) {
  if (typeof value === 'string') return textOf(value);
  if (!(value instanceof Map) && !Array.isArray(value)) return h('span', { class: 'json-word' }, value.raw);
  const members = value instanceof Map ? [...value] : value.map((item, i) => [i, item]);
  if (members.length === 0) return h('span', { class: 'json-word' }, value instanceof Map ? '{}' : '[]');
  const list = h('dl', { class: 'members' });
  const show = (from) => {
    list.append(...members.slice(from, from + SHOWN_MEMBERS).flatMap(([key, item]) => member(key, item, depth)));
    if (members.length > from + SHOWN_MEMBERS) {
      const more = h('button', { type: 'button', class: 'more', click: () => (more.remove(), show(from + SHOWN_MEMBERS)) }, `${count(members.length - from - SHOWN_MEMBERS)} more`);
      list.append(more);
    }
  };
  show(0);
  return list;
}

function member(key, item, depth) {
  const name = h('dt', { class: typeof key === 'number' ? 'position' : null }, String(key));
  if (sizeOf(item) === 0 || typeof item === 'string' || item.raw !== undefined) return [name, h('dd', {}, part(item, depth + 1))];
  if (depth + 1 < OPEN_DEPTH) return [name, h('dd', { class: 'nested' }, part(item, depth + 1))];
  const size = item instanceof Map ? `{ ${count(item.size)} }` : `[ ${count(item.length)} ]`;
  const fold = h('details', { class: 'fold' }, h('summary', {}, size));
  fold.addEventListener('toggle', () => fold.append(part(item, depth + 1)), { once: true });
  return [name, h('dd', { class: 'nested' }, fold)];
}

/** Long texts are cut, and whole on a click. */
function textOf(text) {
  const place = h('span', { class: 'json-text' }, text.length > SHOWN_TEXT ? text.slice(0, SHOWN_TEXT) : text === '' ? '""' : text);
  if (text.length <= SHOWN_TEXT) return place;
  const more = h('button', { type: 'button', class: 'more', click: () => ((place.textContent = text), more.remove()) }, `all ${count(text.length)} characters`);
  return h('span', {}, place, '… ', more);
}
