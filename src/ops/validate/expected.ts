import { CONNECTORS } from '../../connector/registry.ts';
import { TABLES, type Row, type TableName } from '../../core/contracts.ts';
import { ByteWriter } from '../../pipeline/sink/byte-writer.ts';
import { DocumentWriter } from '../../pipeline/sink/document.ts';

/**
 * The document of a row as the sink itself writes it, without `search_text`, which never comes back. The text is a view
 * that the next call overwrites.
 */
export function expectedDocuments(): (row: Row) => Buffer {
  const writers = Object.fromEntries(TABLES.map((table) => [table, new DocumentWriter(CONNECTORS[table], { searchTextBytes: 0 })])) as Record<TableName, DocumentWriter>;
  const bytes = new ByteWriter(64 << 10);
  return (row) => {
    bytes.length = 0;
    writers[row.shape.table].write(bytes, row);
    return bytes.bytes.subarray(0, bytes.length);
  };
}
