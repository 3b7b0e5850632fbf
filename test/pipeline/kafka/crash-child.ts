import { Bench, publish, row } from './harness.ts';

/** A process that publishes one row and dies where DIFY_ES_CRASH_AT says. Arguments: brokers, prefix, transactional.id, text. */
const [brokers, prefix, transactionalId, text] = process.argv.slice(2) as [string, string, string, string];
const bench = new Bench(brokers.split(','), prefix);
const publisher = await bench.publisher({ transactionalId });
await publish(publisher, row(text, text));
process.stdout.write('survived\n');
process.exit(0);
