/**
 * Shares a sample of `total` among groups in proportion to their sizes, but at least one for each group that is not
 * empty (so that every tenant, or every index, is seen) and never more than a group has. Where there are more groups
 * than the sample has places, the largest sample that still gives one to each is taken.
 */
export function shareOut(total: number, sizes: readonly number[]): number[] {
  const shares = sizes.map((size) => (size > 0 ? 1 : 0));
  let left = total - shares.reduce((sum: number, share) => sum + share, 0);
  while (left > 0) {
    const open = sizes.map((size, i) => Math.max(0, size - shares[i]!));
    const room = open.reduce((sum, size) => sum + size, 0);
    if (room === 0) break;
    if (room <= left) return sizes.map((size) => Math.max(0, size));
    // rounding down leaves a rest smaller than the number of groups, given to those with most room
    const more = open.map((size) => Math.floor((left * size) / room));
    const given = more.reduce((sum, share) => sum + share, 0);
    more.forEach((share, i) => (shares[i]! += share));
    left -= given;
    if (given > 0) continue;
    const order = open.map((size, i) => [size, i] as const).filter(([size]) => size > 0).sort(([a], [b]) => b - a);
    for (const [, i] of order.slice(0, left)) shares[i]!++;
    break;
  }
  return shares;
}

/** `count` of the items, each with the same chance, in no order. `random` yields numbers in [0, 1). */
export function pick<T>(items: readonly T[], count: number, random: () => number = Math.random): T[] {
  const pool = [...items];
  const taken = Math.min(count, pool.length);
  for (let i = 0; i < taken; i++) {
    const j = i + Math.floor(random() * (pool.length - i));
    [pool[i], pool[j]] = [pool[j]!, pool[i]!];
  }
  return pool.slice(0, taken);
}
