import pg from 'pg';
import { ORACLE_TABLES, type OracleTable, type RowText } from './contract.ts';

/** Where a row stands in the order of ids, and about how many bytes it takes to read it. */
export interface RowPosition {
  readonly id: string;
  readonly tenantId: string;
  readonly createdAt: string;
  readonly bytes: number;
}

const PAGE = 5000;

/** Every value as the server's own text: a Date or a number would lose what is to be compared. */
const AS_TEXT = { getTypeParser: () => (text: string) => text } as unknown as pg.CustomTypesConfig;

/** PostgreSQL's end: one connection and one snapshot, so that what is listed first is still there when it is read. */
export class PostgresEnd {
  private readonly client: pg.Client;

  private constructor(client: pg.Client) {
    this.client = client;
  }

  static async open(config: pg.ClientConfig): Promise<PostgresEnd> {
    const client = new pg.Client({ ...config, types: AS_TEXT });
    await client.connect();
    await client.query("SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'; SET extra_float_digits = 1; SET intervalstyle = 'postgres'; SET bytea_output = 'hex'; SET statement_timeout = 0");
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    return new PostgresEnd(client);
  }

  async close(): Promise<void> {
    await this.client.end();
  }

  /** Which of the four tables this database has. */
  async tables(): Promise<OracleTable[]> {
    const { rows } = await this.client.query<{ relname: OracleTable }>("SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname = 'public' AND relkind IN ('r', 'p') AND relname = ANY($1)", [ORACLE_TABLES]);
    return ORACLE_TABLES.filter((table) => rows.some(({ relname }) => relname === table));
  }

  /** All rows in the order of their ids (a uuid sorts like its text). */
  async *positions(table: OracleTable): AsyncGenerator<RowPosition> {
    const texts = await this.textColumns(table);
    const bytes = ['200', ...texts.map((column) => `coalesce(octet_length("${column}"), 0)`)].join(' + ');
    for (let after: string | null = null; ; ) {
      const { rows }: { rows: Record<string, string>[] } = await this.client.query(
        `SELECT id, tenant_id, created_at, ${bytes} AS bytes FROM public.${table} WHERE ($1::uuid IS NULL OR id > $1::uuid) ORDER BY id LIMIT ${PAGE}`, [after]);
      for (const row of rows) yield { id: row['id'] ?? '', tenantId: row['tenant_id'] ?? '', createdAt: row['created_at'] ?? '', bytes: Number(row['bytes']) };
      if (rows.length < PAGE) return;
      after = rows.at(-1)?.['id'] ?? null;
    }
  }

  /** Whole rows by id. The caller sees to it that they fit into memory. */
  async rows(table: OracleTable, ids: readonly string[]): Promise<Map<string, RowText>> {
    const { rows } = await this.client.query<RowText>(`SELECT * FROM public.${table} WHERE id = ANY($1::uuid[])`, [ids]);
    return new Map(rows.map((row) => [row['id'] ?? '', row]));
  }

  private async textColumns(table: OracleTable): Promise<string[]> {
    const { rows } = await this.client.query<{ attname: string }>("SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND atttypid IN ('text'::regtype, 'varchar'::regtype)", [`public.${table}`]);
    return rows.map(({ attname }) => attname.replaceAll('"', '""'));
  }
}
