import { Tuple } from '../../core/cells.ts';
import type { OldTuple, Relation, TableName, WalMessage } from '../../core/contracts.ts';
import { TABLES } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import { readLsn } from '../../core/lsn.ts';

/*
 * Decodes pgoutput, protocol version 1: https://www.postgresql.org/docs/18/protocol-logicalrep-message-formats.html
 * The grammar stands above each reader in the words of that page.
 */

/** Milliseconds from 1970 to 2000, PostgreSQL's own beginning of time. */
const POSTGRES_EPOCH_MS = 946_684_800_000;
const IDENTITIES: Readonly<Record<string, Relation['replicaIdentity']>> = { d: 'default', n: 'nothing', f: 'full', i: 'index' };
const OTHER: WalMessage = { kind: 'other' };

/**
 * One decoder belongs to one connection: pgoutput announces each table once per connection, and again after each
 * change of its definition.
 *
 * Tables that are not ours (another schema, a publication with more tables than ours) decode to `other`.
 */
export class PgoutputDecoder {
  readonly #schema: string;
  /** null: announced, but none of our tables. */
  readonly #relations = new Map<number, Relation | null>();

  constructor(schema = 'public') {
    this.#schema = schema;
  }

  /**
   * Decodes one message. `message` may be a view of a buffer that is overwritten afterwards: what is kept is copied.
   * Throws INTERNAL when the bytes are no message of protocol 1: nothing after it can be trusted.
   */
  decode(message: Buffer): WalMessage {
    const tag = String.fromCharCode(message[0] ?? 0);
    try {
      switch (tag) {
        case 'B': return begin(new Bytes(message, 1));
        case 'C': return commit(new Bytes(message, 1));
        case 'R': return this.#relation(new Bytes(message, 1));
        case 'I': return this.#insert(message);
        case 'U': return this.#update(message);
        case 'D': return this.#delete(message);
        case 'T': return this.#truncate(new Bytes(message, 1));
        case 'M': return logicalMessage(new Bytes(message, 1));
        case 'O': case 'Y': return OTHER;
        default: throw new DifyEsError('INTERNAL', `pgoutput sent a message of unknown kind ${JSON.stringify(tag)}`);
      }
    } catch (error) {
      if (error instanceof DifyEsError) throw error;
      throw new DifyEsError('INTERNAL', `pgoutput sent a message ${tag} of ${message.length} bytes that ends too early`, { cause: error });
    }
  }

  /** Int32 oid, String namespace, String relation, Int8 identity, Int16 n, n × (Int8 flags, String name, Int32 type, Int32 modifier) */
  #relation(bytes: Bytes): WalMessage {
    const oid = bytes.uint32();
    const schema = bytes.string();
    const name = bytes.string();
    const replicaIdentity = IDENTITIES[String.fromCharCode(bytes.uint8())];
    if (schema !== this.#schema || !isOurs(name)) {
      this.#relations.set(oid, null);
      return OTHER;
    }
    if (!replicaIdentity) throw new DifyEsError('INTERNAL', `pgoutput announced ${name} with an unknown replica identity`);
    const columns: string[] = [];
    for (let n = bytes.uint16(); n > 0; n--) {
      bytes.skip(1);
      columns.push(bytes.string());
      bytes.skip(8);
    }
    const relation: Relation = { oid, shape: { table: name, columns }, replicaIdentity };
    this.#relations.set(oid, relation);
    return { kind: 'relation', relation };
  }

  /** Int32 oid, Byte1('N'), TupleData */
  #insert(message: Buffer): WalMessage {
    const relation = this.#announced(message.readUInt32BE(1));
    if (!relation) return OTHER;
    const bytes = Bytes.copy(message, 5);
    bytes.expect('N');
    return { kind: 'insert', relation, tuple: bytes.tuple(relation) };
  }

  /** Int32 oid, [Byte1('K') TupleData | Byte1('O') TupleData], Byte1('N'), TupleData */
  #update(message: Buffer): WalMessage {
    const relation = this.#announced(message.readUInt32BE(1));
    if (!relation) return OTHER;
    const bytes = Bytes.copy(message, 5);
    const old = bytes.peek() === 'N' ? ABSENT : bytes.oldTuple(relation);
    bytes.expect('N');
    return { kind: 'update', relation, old, tuple: bytes.tuple(relation) };
  }

  /** Int32 oid, Byte1('K') TupleData | Byte1('O') TupleData */
  #delete(message: Buffer): WalMessage {
    const relation = this.#announced(message.readUInt32BE(1));
    if (!relation) return OTHER;
    return { kind: 'delete', relation, old: Bytes.copy(message, 5).oldTuple(relation) };
  }

  /** Int32 n, Int8 options, n × Int32 oid */
  #truncate(bytes: Bytes): WalMessage {
    const count = bytes.uint32();
    bytes.skip(1);
    const relations: Relation[] = [];
    for (let i = 0; i < count; i++) {
      const relation = this.#announced(bytes.uint32());
      if (relation) relations.push(relation);
    }
    return relations.length > 0 ? { kind: 'truncate', relations } : OTHER;
  }

  #announced(oid: number): Relation | null {
    const relation = this.#relations.get(oid);
    if (relation === undefined) throw new DifyEsError('INTERNAL', `pgoutput sent a change of the table with oid ${oid} before announcing it`);
    return relation;
  }
}

const ABSENT: OldTuple = { kind: 'absent' };

function isOurs(name: string): name is TableName {
  return (TABLES as readonly string[]).includes(name);
}

/** Int64 commit LSN, Int64 commit time, Int32 xid */
function begin(bytes: Bytes): WalMessage {
  return { kind: 'begin', commitLsn: bytes.lsn(), commitTimeMs: bytes.timeMs(), xid: bytes.uint32() };
}

/** Int8 flags, Int64 commit LSN, Int64 end LSN, Int64 commit time */
function commit(bytes: Bytes): WalMessage {
  bytes.skip(1);
  return { kind: 'commit', commitLsn: bytes.lsn(), endLsn: bytes.lsn(), commitTimeMs: bytes.timeMs() };
}

/** Int8 flags (1: transactional), Int64 LSN, String prefix, Int32 n, n bytes */
function logicalMessage(bytes: Bytes): WalMessage {
  const transactional = (bytes.uint8() & 1) === 1;
  bytes.skip(8);
  const prefix = bytes.string();
  return { kind: 'logical-message', transactional, prefix, content: Buffer.from(bytes.slice(bytes.uint32())) };
}

/** A cursor over one message. Oids, xids and lengths are unsigned: above 2^31 a signed one finds no relation. */
class Bytes {
  readonly #bytes: Buffer;
  #at: number;

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes;
    this.#at = at;
  }

  /** Over a copy, so that cells may lie in it: one copy a message instead of one a cell. */
  static copy(message: Buffer, at: number): Bytes {
    return new Bytes(Buffer.from(message), at);
  }

  uint8(): number {
    return this.#bytes.readUInt8(this.#at++);
  }

  uint16(): number {
    this.#at += 2;
    return this.#bytes.readUInt16BE(this.#at - 2);
  }

  uint32(): number {
    this.#at += 4;
    return this.#bytes.readUInt32BE(this.#at - 4);
  }

  lsn(): ReturnType<typeof readLsn> {
    this.#at += 8;
    return readLsn(this.#bytes, this.#at - 8);
  }

  /** Microseconds since 2000 on the wire; milliseconds since 1970 here. */
  timeMs(): number {
    this.#at += 8;
    return Number(this.#bytes.readBigInt64BE(this.#at - 8) / 1000n) + POSTGRES_EPOCH_MS;
  }

  string(): string {
    const end = this.#bytes.indexOf(0, this.#at);
    if (end < 0) throw new RangeError('a string without its end');
    const text = this.#bytes.toString('utf8', this.#at, end);
    this.#at = end + 1;
    return text;
  }

  skip(count: number): void {
    this.#at += count;
  }

  /** Goes on behind a value and returns where it begins. */
  pass(length: number): number {
    const start = this.#at;
    if (start + length > this.#bytes.length) throw new RangeError('a value longer than its message');
    this.#at = start + length;
    return start;
  }

  slice(length: number): Buffer {
    return this.#bytes.subarray(this.pass(length), this.#at);
  }

  peek(): string {
    return String.fromCharCode(this.#bytes.readUInt8(this.#at));
  }

  expect(tag: string): void {
    if (String.fromCharCode(this.uint8()) !== tag) throw new RangeError(`a message without its ${tag}`);
  }

  /** Byte1('K') or Byte1('O'), TupleData. */
  oldTuple(relation: Relation): OldTuple {
    const kind = String.fromCharCode(this.uint8());
    const cells = this.tuple(relation);
    if (kind === 'O') return { kind: 'full', cells };
    if (kind !== 'K') throw new RangeError('an old tuple that is neither key nor row');
    // A key is never TOASTed out of line: an index tuple holds it.
    return { kind: 'key', cells };
  }

  /** Int16 n, n × (Byte1('n') | Byte1('u') | Byte1('t') Int32 length, bytes) */
  tuple(relation: Relation): Tuple {
    const count = this.uint16();
    if (count !== relation.shape.columns.length) throw new RangeError('a row of another width than announced');
    const cells = Tuple.room(this.#bytes, count);
    for (let i = 0; i < count; i++) {
      const kind = this.uint8();
      if (kind === 0x74) cells.put(i, this.pass(this.uint32()), this.#at);
      else if (kind === 0x6e) cells.putNull(i);
      else if (kind === 0x75) cells.putHole(i);
      else throw new RangeError('a column that is neither text nor null nor unchanged');
    }
    return cells;
  }
}
