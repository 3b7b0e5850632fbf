import { open } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { BULK_FILTER } from '../../src/pipeline/sink/outcomes.ts';
import { cutFile } from './bulk-file.ts';

/*
 * `node raw-child.ts FILE URL BULK-BYTES CONNECTIONS`: sends prepared bulks as fast as they are answered and prints
 * what it took as JSON. A process of its own, so that its CPU can be told from that of the bench.
 */
const [file = '', url = '', bulkBytes = '0', connections = '0'] = process.argv.slice(2);
const cuts = await cutFile(file, Number(bulkBytes));
const agent = new Agent({ keepAlive: true, maxSockets: Number(connections) });
const handle = await open(file);

let next = 0;
const cpuBefore = process.cpuUsage();
const began = performance.now();
await Promise.all(Array.from({ length: Number(connections) }, connection));
const seconds = (performance.now() - began) / 1000;
const { user, system } = process.cpuUsage(cpuBefore);
await handle.close();
agent.destroy();
const rows = cuts.reduce((sum, { items }) => sum + items, 0);
process.stdout.write(JSON.stringify({ rows, bytes: cuts.at(-1)?.end ?? 0, seconds, cpuSeconds: (user + system) / 1e6, highWaterMb: Math.round(process.resourceUsage().maxRSS / 1024) }));

async function connection(): Promise<void> {
  let memory = Buffer.alloc(Number(bulkBytes) * 2);
  for (let cut = cuts[next++]; cut; cut = cuts[next++]) {
    const length = cut.end - cut.start;
    if (memory.length < length) memory = Buffer.alloc(length);
    await handle.read(memory, 0, length, cut.start);
    const answer = JSON.parse(await post(memory.subarray(0, length))) as { errors?: boolean; items?: readonly unknown[] };
    if (answer.errors !== false || answer.items?.length !== cut.items) throw new Error(`a raw bulk was not taken whole: ${JSON.stringify(answer).slice(0, 400)}`);
  }
}

function post(body: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request(`${url}/_bulk?filter_path=${BULK_FILTER}`, { method: 'POST', agent, headers: { 'content-type': 'application/x-ndjson', 'content-length': body.length } }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (part: string) => (text += part)).on('end', () => resolve(text)).on('error', reject);
    });
    sent.on('error', reject).end(body);
  });
}
