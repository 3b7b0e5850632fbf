/*
 * The only way elements are made here. Texts become text nodes, never markup: what a row holds is other people's input.
 */

const SVG = 'http://www.w3.org/2000/svg';

/** `h('p', { class: 'quiet' }, 'text', element)`; an attribute of null or false is left out, a function is a listener. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

const drawn = new WeakMap();

/** Draws a place anew, but only when its data is another: what is read, focused or selected there stays. */
export function render(place, data, draw) {
  const text = JSON.stringify(data);
  if (drawn.get(place) === text) return;
  drawn.set(place, text);
  place.replaceChildren(...[draw(data)].flat().filter(Boolean));
}

/** Sets a text where it is another one. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A bar of a share from 0 to 1. SVG, since the page's policy allows no style in markup. */
export function meter(share, kind = 'ok', label = '') {
  const width = Math.max(0, Math.min(1, share)) * 100;
  return s('svg', { class: `meter ${kind}`, role: 'img', 'aria-label': label || `${width.toFixed(0)} %`, preserveAspectRatio: 'none', viewBox: '0 0 100 1' },
    s('rect', { class: 'meter-all', width: 100, height: 1 }),
    width > 0 && s('rect', { class: 'meter-part', width: Math.max(width, 0.6), height: 1 }));
}

/** A time that says how long ago it was, and goes on saying it. `at`: ISO 8601 with its zone, or milliseconds. */
export function ago(at, since) {
  const date = new Date(at);
  return h('time', { datetime: date.toISOString(), title: date.toLocaleString(), 'data-ago': date.getTime() }, since(date.getTime()));
}
