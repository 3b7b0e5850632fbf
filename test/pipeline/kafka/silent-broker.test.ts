import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { pino } from 'pino';
import { expect, it } from 'vitest';
import { createControlChange } from '../../../src/pipeline/kafka/control-change.ts';
import { Kafka } from '../../../src/pipeline/kafka/kafkajs.ts';

it('a broker that takes the connection and never answers is away for a change of the state, and no fault of the program', async () => {
  const sockets: Socket[] = [];
  const silent = createServer((socket) => void sockets.push(socket.on('error', () => undefined)));
  await once(silent.listen(0, '127.0.0.1'), 'listening');
  const kafka = new Kafka({ brokers: [`127.0.0.1:${(silent.address() as AddressInfo).port}`], clientId: 'test', connectionTimeout: 200, requestTimeout: 200, logCreator: () => () => undefined });
  const change = createControlChange({ kafka, topic: 'control', refresh: () => Promise.resolve(), logger: pino({ level: 'silent' }) });
  try {
    await expect(change(() => ({ writes: [['a', 1]], result: null }))).rejects.toMatchObject({ code: 'KAFKA_UNREACHABLE' });
  } finally {
    for (const socket of sockets) socket.destroy();
    silent.close();
  }
}, 60_000);
