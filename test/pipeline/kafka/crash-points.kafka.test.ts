import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partitionOf } from '../../../src/core/row-key.ts';
import { decodeRow } from '../../../src/pipeline/encode/row-codec.ts';
import { createPartitionReader } from '../../../src/pipeline/kafka/partition-reader.ts';
import { isolate } from '../../support/servers.ts';
import { benchFor } from './bench-for.ts';
import { Bench, PARTITIONS, publish, row, RUNS } from './harness.ts';

const here = isolate(import.meta.filename);
const folder = mkdtempSync(join(tmpdir(), 'crash-'));
let shared: Bench;
beforeAll(async () => {
  shared = new Bench(here.brokers, here.topicPrefix);
  await shared.setup();
});
afterAll(async () => {
  await shared.close();
  rmSync(folder, { recursive: true });
});

const endOf = async (bench: Bench, id: string): Promise<bigint> => {
  const reader = createPartitionReader(bench.kafka);
  await reader.connect([bench.names.table[RUNS]]);
  const ends = await reader.offsets(bench.names.table[RUNS], 'end');
  await reader.close();
  return ends.get(partitionOf(id, PARTITIONS))!;
};

function die(point: string, transactionalId: string, text: string): Promise<{ signal: string | null; witness: string }> {
  const witness = join(folder, `${transactionalId}.txt`);
  const child = spawn(process.execPath, [join(import.meta.dirname, 'crash-child.ts'), here.brokers.join(','), here.topicPrefix, transactionalId, text], {
    env: { ...process.env, NODE_OPTIONS: '', DIFY_ES_CRASH_AT: point, DIFY_ES_CRASH_WITNESS: witness },
    stdio: 'ignore',
  });
  return new Promise((resolve) => child.on('exit', (_code, signal) => resolve({ signal, witness: readFileSync(witness, 'utf8') })));
}

describe('a writer that is killed', () => {
  it.each([
    ['stream.produce-sent', false],
    ['stream.produce-acknowledged', false],
    ['stream.transaction-committed', true],
  ])('at %s has published: %s', async (point, visible) => {
    const bench = benchFor(shared);
    const transactionalId = randomUUID();
    const id = randomUUID();
    const before = await endOf(bench, id);
    expect(await die(point, transactionalId, id)).toEqual({ signal: 'SIGKILL', witness: `${point}\n` });
    // The bytes had left the process: they are in the log, whether anybody may see them or not.
    await expect.poll(() => endOf(bench, id)).toBeGreaterThan(before);
    await publish(await bench.publisher({ transactionalId }), row(id, `${id} by the successor`));
    const texts = (await bench.messages(bench.names.table[RUNS])).map(({ value }) => decodeRow(value!, 4).get(3)!.toString()).filter((text) => text.startsWith(id));
    expect(texts).toEqual([...(visible ? [id] : []), `${id} by the successor`]);
  });
});
