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
/** The size does not count itself. */
const SIZE_BYTES = 4;

/**
 * A request as it goes out (request header v1), in one buffer of its size. kafkajs copied it twice more, each time into a
 * buffer that it cleared first and that is a power of two: two to four times the request's bytes.
 */
export async function frameRequest({ correlationId, clientId, request }: RequestToFrame): Promise<{ readonly buffer: Buffer }> {
  const payload = await request.encode();
  const pieces = 'pieces' in payload ? payload.pieces : [payload.buffer];
  const name = Buffer.from(clientId);
  const header = Buffer.allocUnsafe(HEADER_BYTES);
  header.writeInt32BE(pieces.reduce((sum, piece) => sum + piece.length, HEADER_BYTES - SIZE_BYTES + name.length), 0);
  header.writeInt16BE(request.apiKey, 4);
  header.writeInt16BE(request.apiVersion, 6);
  header.writeInt32BE(correlationId, 8);
  header.writeInt16BE(name.length, 12);
  const buffer = Buffer.concat([header, name, ...pieces]);
  if ('pieces' in payload) pieces.forEach(release);
  return { buffer };
}
