import pg from 'pg';
import { pino } from 'pino';
import { test } from 'vitest';
import { loadConfig, readEnvironment } from '../../src/config/config.ts';
import { DifyEsError } from '../../src/core/errors.ts';
import { stateKeys, type ControlLog } from '../../src/core/state.ts';
import { watchSource } from '../../src/run/source-watch.ts';
import { isolate } from '../support/servers.ts';

const here = isolate(import.meta.filename);

test('ends well when it is stopped while what it found out cannot be recorded, since Kafka is away', async () => {
  const db = new pg.Client({ connectionString: here.postgresUrl });
  await db.connect();
  await db.query('CREATE TABLE workflow_runs (id uuid PRIMARY KEY, added text)');
  await db.end();
  const asked = Promise.withResolvers<void>();
  const control = {
    get: (key: string) => (key === stateKeys.columns('workflow_runs') ? { table: 'workflow_runs', columns: ['id'] } : undefined),
    change: () => {
      asked.resolve();
      return Promise.reject(new DifyEsError('KAFKA_UNREACHABLE', 'away'));
    },
  } as unknown as ControlLog;
  const stop = new AbortController();
  const watching = watchSource({ config: loadConfig(readEnvironment(here.env)), control, log: pino({ level: 'silent' }), signal: stop.signal, stopReader: () => Promise.resolve() });
  await Promise.race([asked.promise, watching]);
  await new Promise((done) => setImmediate(done));
  stop.abort();
  await watching;
});
