import type { Publisher, RowRecord, TableName } from '../../core/contracts.ts';
import { sizeOfRow } from '../../pipeline/encode/row-codec.ts';

/** What the key and the headers of a record take, generously. */
const BESIDE = 1_024;

/**
 * A publisher that leaves out rows above `limit` bytes and names them, instead of parking each as one more letter at
 * every redrive.
 */
export function sizeGuard(publisher: Publisher, limit: number, onTooLarge: (table: TableName, id: string) => void): Publisher {
  const fits = ({ row, key, table }: RowRecord): boolean => {
    if (row === null || sizeOfRow(row.cells) + BESIDE <= limit) return true;
    onTooLarge(table, key.id);
    return false;
  };
  return {
    async begin() {
      const transaction = await publisher.begin();
      return { ...transaction, send: (records) => transaction.send(records.filter(fits)) };
    },
    close: () => publisher.close(),
  };
}
