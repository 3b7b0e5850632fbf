import { existsSync } from 'node:fs';
import { expect, it } from 'vitest';
import { measureMemory } from '../../scripts/memory/measure.ts';
import { isolate } from '../support/servers.ts';

/* P7. The short form; `npm run test:memory` does it with two million rows. The figure is the kernel's, so Linux only. */
const here = isolate(import.meta.filename);
const LIMIT_MB = 512;

it.skipIf(!existsSync('/proc/self/status'))('stream, sink and migrate stay below 512 MB under one large transaction, a backlog and rows of 8 MB', { timeout: 900_000 }, async () => {
  const figures = await measureMemory(here.env, { rows: 60_000, largeRows: 4 });
  process.stdout.write(`${JSON.stringify(figures)}\n`);
  const { transaction, backlog, migrate, large } = figures;
  for (const mb of [transaction.streamMb, transaction.sinkMb, backlog.sinkMb, migrate.migrateMb, large.streamMb, large.sinkMb, large.migrateMb]) {
    expect(mb).toBeGreaterThan(0);
    expect(mb).toBeLessThan(LIMIT_MB);
  }
  expect(figures.compared).toBe(60_004);
});
