import { createRequire } from 'node:module';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { frameRequest } from '../../../../src/pipeline/kafka/wire/request-frame.ts';

/** kafkajs as it is published: nothing is replaced in a copy that is loaded here. */
const require = createRequire(import.meta.url);
interface TheirEncoder {
  writeBuffer(bytes: Buffer): TheirEncoder;
  readonly buffer: Buffer;
}
const TheirEncoder = require('kafkajs/src/protocol/encoder') as new () => TheirEncoder;
const theirFrame = require('kafkajs/src/protocol/request') as (request: unknown) => Promise<{ readonly buffer: Buffer }>;

const bytes = fc.uint8Array({ maxLength: 2_000 }).map((array) => Buffer.from(array));
const header = fc.record({ correlationId: fc.integer({ min: 0, max: 2 ** 31 - 1 }), clientId: fc.string({ unit: 'grapheme', maxLength: 40 }), apiKey: fc.nat(100), apiVersion: fc.nat(20) });

it("frames a request as kafkajs's own does, be it one encoder or pieces", async () => {
  await fc.assert(
    fc.asyncProperty(header, fc.array(bytes, { maxLength: 6 }), async ({ correlationId, clientId, ...request }, pieces) => {
      const encoder = new TheirEncoder().writeBuffer(Buffer.concat(pieces));
      const theirs = await theirFrame({ correlationId, clientId, request: { ...request, encode: async () => encoder } });
      expect((await frameRequest({ correlationId, clientId, request: { ...request, encode: async () => encoder } })).buffer).toEqual(theirs.buffer);
      expect((await frameRequest({ correlationId, clientId, request: { ...request, encode: async () => ({ pieces }) } })).buffer).toEqual(theirs.buffer);
    }),
  );
});

it('gives large pieces back once they are in the frame', async () => {
  const piece = Buffer.alloc(200_000, 1);
  const { buffer } = await frameRequest({ correlationId: 1, clientId: 'dify-es', request: { apiKey: 0, apiVersion: 3, encode: async () => ({ pieces: [piece] }) } });
  expect(piece).toHaveLength(0);
  expect(buffer.subarray(-200_000).every((byte) => byte === 1)).toBe(true);
});
