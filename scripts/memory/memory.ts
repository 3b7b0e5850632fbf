import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { cleanUpElasticsearch, cleanUpKafka, createDatabase, dropDatabase } from '../../test/support/server-cleanup.ts';
import { readEnvFile } from '../local/env-file.ts';
import { measureMemory } from './measure.ts';

/*
 * `npm run test:memory -- --env .local/env [--rows 2000000] [--large 10]`: peak memory of stream, sink and migrate
 * under one large transaction, a backlog and rows of 8 MB, on servers that run (`npm run local -- up`). Exit 1 when one
 * of them passes 512 MB. Linux only: the figure is the kernel's.
 */
const LIMIT_MB = 512;
const { values } = parseArgs({ options: { env: { type: 'string', default: '.local/env' }, rows: { type: 'string', default: '2000000' }, large: { type: 'string', default: '10' } } });
const servers = readEnvFile(values.env);
const name = `memory-${randomBytes(3).toString('hex')}`;
const underscored = name.replaceAll('-', '_');
const here = {
  brokers: (servers['KAFKA_BROKERS'] ?? '').split(','), topicPrefix: name, indexPrefix: name, elasticsearchUrl: (JSON.parse(servers['ELASTICSEARCH_HOSTS'] ?? '[]') as string[])[0] ?? '',
  env: { ...servers, DB_DATABASE: underscored, CDC_SLOT: underscored, CDC_PUBLICATION: underscored, KAFKA_TOPIC_PREFIX: name, KAFKA_CONSUMER_GROUP: `${name}-sink`, ELASTICSEARCH_INDEX_PREFIX: name },
};
await createDatabase(here.env);
try {
  const figures = await measureMemory(here.env, { rows: Number(values.rows), largeRows: Number(values.large), say: (line) => console.log(line) });
  const peaks = Object.values(figures).flatMap((part) => (typeof part === 'number' ? [] : Object.entries(part))).filter(([name]) => name.endsWith('Mb')).map(([, mb]) => mb as number);
  console.log(`highest ${Math.max(...peaks)} MB of ${LIMIT_MB} MB; ${figures.compared} rows compared, equal`);
  process.exitCode = Math.max(...peaks) < LIMIT_MB ? 0 : 1;
} finally {
  await Promise.allSettled([dropDatabase(here.env), cleanUpKafka(here), cleanUpElasticsearch(here)]);
}
process.exit();
