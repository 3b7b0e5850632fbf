import { type Tuple, UNCHANGED } from '../../../src/core/cells.ts';
import type { Cell, LoggedChange, LoggedTransaction, OldTuple, Relation, TableName } from '../../../src/core/contracts.ts';
import type { Lsn } from '../../../src/core/lsn.ts';
import { tupleOf, type TupleValue } from '../../support/cells.ts';

/** Writes pgoutput messages as the server does, for what no server can be made to send. */
export class MessageWriter {
  readonly #parts: Buffer[] = [];

  constructor(tag: string) {
    this.#parts.push(Buffer.from(tag, 'latin1'));
  }

  byte(value: number | string): this {
    this.#parts.push(Buffer.from([typeof value === 'number' ? value : value.charCodeAt(0)]));
    return this;
  }

  int16(value: number): this {
    const part = Buffer.alloc(2);
    part.writeUInt16BE(value);
    this.#parts.push(part);
    return this;
  }

  int32(value: number): this {
    const part = Buffer.alloc(4);
    part.writeUInt32BE(value);
    this.#parts.push(part);
    return this;
  }

  int64(value: bigint): this {
    const part = Buffer.alloc(8);
    part.writeBigUInt64BE(value);
    this.#parts.push(part);
    return this;
  }

  text(value: string): this {
    this.#parts.push(Buffer.from(`${value}\0`, 'utf8'));
    return this;
  }

  bytes(value: Buffer): this {
    this.#parts.push(value);
    return this;
  }

  tuple(cells: readonly TupleValue[]): this {
    this.int16(cells.length);
    for (const cell of cells) {
      if (cell === null) this.byte('n');
      else if (cell === UNCHANGED) this.byte('u');
      else this.byte('t').int32(cell.length).bytes(cell);
    }
    return this;
  }

  done(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

export function relationMessage(oid: number, name: string, columns: readonly string[], options: { schema?: string; identity?: string } = {}): Buffer {
  const writer = new MessageWriter('R').int32(oid).text(options.schema ?? 'public').text(name).byte(options.identity ?? 'i').int16(columns.length);
  for (const column of columns) writer.byte(column === 'id' ? 1 : 0).text(column).int32(25).int32(0xffff_ffff);
  return writer.done();
}

export const COLUMNS = ['id', 'status', 'tenant_id', 'graph', 'created_at'] as const;
export const ID = '3f0f1f52-1111-4222-8333-444455556666';
export const OTHER_ID = '4f0f1f52-1111-4222-8333-444455556666';
export const TENANT = '7b1e3a52-0c55-4b7e-9a53-2f9d6c1f0a11';
export const CREATED_AT = '2025-10-10 08:25:41.123456';

export function relation(table: TableName = 'workflow_runs', replicaIdentity: Relation['replicaIdentity'] = 'index', columns: readonly string[] = COLUMNS): Relation {
  return { oid: 16_400, shape: { table, columns }, replicaIdentity };
}

export interface Values {
  id?: string | null;
  tenant?: string | null;
  createdAt?: string | null;
  status?: string | null;
  graph?: string | null | typeof UNCHANGED;
}

/** A row in the order of COLUMNS. */
export function tuple(values: Values = {}): Tuple {
  const cell = (value: string | null | undefined, other: string): Cell => (value === null ? null : Buffer.from(value ?? other));
  const graph = values.graph === UNCHANGED ? UNCHANGED : cell(values.graph, '{}');
  return tupleOf([cell(values.id, ID), cell(values.status, 'running'), cell(values.tenant, TENANT), graph, cell(values.createdAt, CREATED_AT)]);
}

/** The old tuple under USING INDEX: only the key is real. */
export function oldKey(values: Values = {}): OldTuple {
  const cells = tuple(values);
  return { kind: 'key', cells: tupleOf([cells.get(0), null, cells.get(2), null, cells.get(4)]) };
}

export function transaction(commitLsn: number | bigint = 1_000, more: Partial<LoggedTransaction> = {}): LoggedTransaction {
  return { xid: 700, commitLsn: BigInt(commitLsn) as Lsn, commitTimeMs: 1_760_084_741_123, cleanupRunId: null, ...more };
}

export function logged(message: LoggedChange['message'], in_ = transaction()): LoggedChange {
  return { transaction: in_, message };
}
