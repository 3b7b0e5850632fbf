import { CONNECTORS } from '../../../src/connector/registry.ts';
import type { Row, TableName } from '../../../src/core/contracts.ts';
import { ByteWriter } from '../../../src/pipeline/sink/byte-writer.ts';
import { DocumentWriter } from '../../../src/pipeline/sink/document.ts';
import { cellsOf } from '../../support/cells.ts';

export const ID = '0f8fad5b-d9cb-469f-a165-70867728950e';
export const TENANT = '11111111-2222-4333-8444-555555555555';

/** A row of texts; columns in the order of the object. */
export function rowOf(table: TableName, values: Readonly<Record<string, string | Buffer | null>>): Row {
  const cells = Object.values(values).map((value) => (value === null ? null : Buffer.from(value as string)));
  return { shape: { table, columns: Object.keys(values) }, cells: cellsOf(cells) };
}

/** The document of a row as text, written behind other bytes into a buffer that has to grow. */
export function documentText(row: Row, options: { searchTextBytes?: number; distrustJson?: boolean } = {}): string {
  const writer = new ByteWriter(7);
  writer.ascii('before');
  new DocumentWriter(CONNECTORS[row.shape.table], { searchTextBytes: options.searchTextBytes ?? 0 }).write(writer, row, options.distrustJson);
  return writer.bytes.toString('utf8', 6, writer.length);
}

export function documentOf(row: Row, options?: Parameters<typeof documentText>[1]): Record<string, unknown> {
  return JSON.parse(documentText(row, options)) as Record<string, unknown>;
}
