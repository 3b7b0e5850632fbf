import type { LetterRunsRecord } from '../../core/state.ts';

/** Letters of one record of the control topic: at worst, every other one redriven, some 100 kB of JSON. */
const STRETCH = 5_000;

type Run = LetterRunsRecord['runs'][number];
export type RunState = Run[2];

export const stretchOf = (offset: number): number => Math.floor(offset / STRETCH);

/** What the runs say of one letter; undefined when it was never tried. */
export function stateAt(runs: readonly Run[], offset: number): RunState | undefined {
  let low = 0;
  let high = runs.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const [from, to, state] = runs[middle]!;
    if (offset < from) high = middle - 1;
    else if (offset > to) low = middle + 1;
    else return state;
  }
  return undefined;
}

/** The runs with the states of some letters set, and neighbours of one state joined. */
export function withStates(runs: readonly Run[], states: ReadonlyMap<number, RunState>): Run[] {
  const offsets = [...states.keys()];
  if (offsets.length === 0) return [...runs];
  const all = new Map<number, RunState>();
  for (const [from, to, state] of runs) for (let offset = from; offset <= to; offset++) all.set(offset, state);
  for (const [offset, state] of states) all.set(offset, state);
  const joined: [number, number, RunState][] = [];
  for (const offset of [...all.keys()].sort((a, b) => a - b)) {
    const state = all.get(offset)!;
    const last = joined.at(-1);
    if (last && last[1] === offset - 1 && last[2] === state) last[1] = offset;
    else joined.push([offset, offset, state]);
  }
  return joined;
}
