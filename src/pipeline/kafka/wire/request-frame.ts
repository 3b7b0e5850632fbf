import { release } from '../../../core/release.ts';

/** What a request's `encode` gives: kafkajs' own Encoder, or pieces that are only here put together and then given back. */
type Payload = { readonly buffer: Buffer } | { readonly pieces: readonly Buffer[] };

interface RequestToFrame {
  readonly correlationId: number;
  readonly clientId: string;
  readonly request: { readonly apiKey: number; readonly apiVersion: number; encode(): Promise<Payload> };
}

/** Size, api key, api version, correlation id, length of the client id. */
const HEADER_BYTES = 4 + 2 + 2 + 4 + 2;

/**
 * A request as it goes out (request header v1), in one buffer of its size. kafkajs copied it twice more, each time into a
 * buffer that it cleared first and that is a power of two: two to four times the request's bytes.
 */
export async function frameRequest({ correlationId, clientId, request }: RequestToFrame): Promise<{ readonly buffer: Buffer }> {
  const payload = await request.encode();
  const pieces = 'pieces' in payload ? payload.pieces : [payload.buffer];
  const name = Buffer.from(clientId);
  const begin = HEADER_BYTES + name.length;
  const buffer = Buffer.allocUnsafeSlow(pieces.reduce((sum, piece) => sum + piece.length, begin));
  buffer.writeInt32BE(buffer.length - 4, 0);
  buffer.writeInt16BE(request.apiKey, 4);
  buffer.writeInt16BE(request.apiVersion, 6);
  buffer.writeInt32BE(correlationId, 8);
  buffer.writeInt16BE(name.length, 12);
  name.copy(buffer, HEADER_BYTES);
  let at = begin;
  for (const piece of pieces) {
    buffer.set(piece, at);
    at += piece.length;
  }
  if ('pieces' in payload) pieces.forEach(release);
  return { buffer };
}
