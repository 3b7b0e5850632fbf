import type pg from 'pg';
import { quote } from '../dify/copy.ts';
import { columnsOf, type DifyTable } from '../dify/schema.ts';
import type { OPTIONAL_KINDS } from './kinds.ts';
import type { Operation } from './plan.ts';

/** What a TRUNCATE took away: under TRUNCATE_POLICY=ignore these rows' documents stay, as they were. */
export interface Truncation {
  readonly table: DifyTable;
  readonly ids: readonly string[];
}

const EXTRA = 'extra_';

/** Runs an operation on the tables themselves, while nobody else writes. Resolves with 1, or 0 when there was nothing to do. */
export async function alter(client: pg.ClientBase, { number, table }: Operation, kind: (typeof OPTIONAL_KINDS)[number], truncated: (truncation: Truncation) => void): Promise<number> {
  switch (kind) {
    case 'add-column':
      await client.query(`ALTER TABLE public.${table} ADD COLUMN ${EXTRA}${number} text DEFAULT 'added by operation ${number}'`);
      return 1;
    case 'rename-column': {
      const extra = await anyExtra(client);
      if (!extra) return 0;
      await client.query(`ALTER TABLE public.${extra.table} RENAME COLUMN ${quote(extra.column)} TO ${EXTRA}renamed_${number}`);
      return 1;
    }
    case 'drop-column': {
      const extra = await anyExtra(client);
      if (!extra) return 0;
      await client.query(`ALTER TABLE public.${extra.table} DROP COLUMN ${quote(extra.column)}`);
      return 1;
    }
    case 'truncate': {
      const { rows } = await client.query<{ id: string }>(`SELECT id::text AS id FROM public.${table}`);
      await client.query(`TRUNCATE public.${table}`);
      truncated({ table, ids: rows.map(({ id }) => id) });
      return 1;
    }
    default: return kind satisfies never;
  }
}

async function anyExtra(client: pg.ClientBase): Promise<{ table: DifyTable; column: string } | undefined> {
  for (const [table, columns] of await columnsOf(client)) {
    const column = columns.find((name) => name.startsWith(EXTRA));
    if (column) return { table, column };
  }
  return undefined;
}
