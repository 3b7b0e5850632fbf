import { parseArgs } from 'node:util';
import pg from 'pg';
import { settingsFrom } from '../oracle/settings.ts';
import { assertEveryKind, describeCounts, runWorkload } from './workload.ts';

/*
 * `node test/support/workload/main.ts --seed 7 --operations 5000 [--ddl] [--truncate] [--rate N]` with DB_* set: writes
 * the workload of that seed into the database, prints the count of each kind and fails when one of them is 0.
 */

const { values } = parseArgs({ options: { seed: { type: 'string', default: '1' }, operations: { type: 'string', default: '5000' }, rate: { type: 'string' }, ddl: { type: 'boolean', default: false }, truncate: { type: 'boolean', default: false } } });
const connect = async (): Promise<pg.Client> => {
  const client = new pg.Client(settingsFrom(process.env).pg);
  await client.connect();
  return client;
};

const result = await runWorkload({ connect, seed: Number(values.seed), operations: Number(values.operations), ddl: values.ddl, truncate: values.truncate, ...(values.rate ? { operationsPerSecond: Number(values.rate) } : {}) });
console.log(describeCounts(result));
assertEveryKind(result, values);
