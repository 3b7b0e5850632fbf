import { expect, it } from 'vitest';
import { describeFigures, runChaos } from '../../scripts/chaos/rounds.ts';
import { ownServers } from '../support/servers.ts';

/* The short form of `npm run test:chaos`: a round with migrate and one without, on servers of its own. */
const own = ownServers();

it('after kill -9 of reader, sink, migrate and servers at random moments both ends are equal', { timeout: 900_000 }, async () => {
  const [pg, kafka, es] = await Promise.all([own.postgres(), own.kafka(), own.elasticsearch()]);
  const figures = await runChaos({ pg, kafka, es }, { seed: 7, minutes: 0, roundSeconds: 35, pauseMs: [300, 2_500], operationsPerSecond: 15, say: () => undefined });
  process.stdout.write(`${describeFigures(figures)}\n`);
  expect(figures.faults).toEqual([]);
  expect([figures.rounds, figures.roundsOfTheStreamAlone]).toEqual([2, 1]);
  expect(Object.values(figures.kills).reduce((sum, count) => sum + count, 0)).toBeGreaterThan(3);
  expect(figures.operations).toBeGreaterThan(50);
});
