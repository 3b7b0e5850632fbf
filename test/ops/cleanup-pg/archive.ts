import pg from 'pg';
import { differingFields, expectedDocument, expectedIndex, ORACLE_TABLES, type OracleTable, type RowText } from '../../support/oracle/contract.ts';
import { ElasticsearchEnd } from '../../support/oracle/elasticsearch.ts';
import { settingsFrom } from '../../support/oracle/settings.ts';

const AS_TEXT = { getTypeParser: () => (text: string) => text } as unknown as pg.CustomTypesConfig;
const TOGETHER = 200;

/**
 * The test's own copy of every row that cleanup-pg deletes, taken by a trigger in the deleting transaction itself: what
 * the row was at that very moment, whatever a writer did before.
 */
const KEEP = `
  CREATE SCHEMA kept;
  CREATE FUNCTION kept.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('application_name') = 'dify-es cleanup-pg' THEN EXECUTE format('INSERT INTO kept.%I SELECT ($1).*', TG_TABLE_NAME) USING OLD; END IF;
    RETURN OLD;
  END $$;
  ${ORACLE_TABLES.map((table) => `CREATE TABLE kept.${table} (LIKE public.${table}); CREATE TRIGGER keep AFTER DELETE ON public.${table} FOR EACH ROW EXECUTE FUNCTION kept.keep();`).join('\n')}`;

export class Archive {
  readonly #db: pg.Client;
  readonly #elastic: ElasticsearchEnd;
  readonly #prefix: string;

  private constructor(db: pg.Client, elastic: ElasticsearchEnd, prefix: string) {
    this.#db = db;
    this.#elastic = elastic;
    this.#prefix = prefix;
  }

  static async open(env: Readonly<Record<string, string>>): Promise<Archive> {
    const settings = settingsFrom(env);
    const db = new pg.Client({ ...settings.pg, types: AS_TEXT });
    await db.connect();
    await db.query("SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'; SET extra_float_digits = 1");
    await db.query(KEEP);
    return new Archive(db, new ElasticsearchEnd(settings.es), settings.prefix);
  }

  async close(): Promise<void> {
    await this.#db.end();
  }

  /** Rows deleted so far. */
  async count(): Promise<number> {
    let sum = 0;
    for (const table of ORACLE_TABLES) sum += Number((await this.#db.query<{ count: string }>(`SELECT count(*) FROM kept.${table}`)).rows[0]!.count);
    return sum;
  }

  /** Deleted rows that Elasticsearch does not hold with equal content, by the reader contract; ids and fields. */
  async lost(): Promise<string[]> {
    await this.#elastic.refresh(`${this.#prefix}-workflow-*`);
    const lost: string[] = [];
    for (const table of ORACLE_TABLES) {
      const { rows } = await this.#db.query<RowText>(`SELECT * FROM kept.${table}`);
      for (let at = 0; at < rows.length; at += TOGETHER) lost.push(...(await this.#compare(table, rows.slice(at, at + TOGETHER))));
    }
    return lost;
  }

  async #compare(table: OracleTable, rows: readonly RowText[]): Promise<string[]> {
    const positions = rows.map((row) => ({ id: row['id']!, index: expectedIndex(this.#prefix, table, row['tenant_id']!, row['created_at']!)! }));
    const found = await this.#elastic.documents(positions);
    return rows.flatMap((row, i) => {
      const document = found[i];
      const fields = document ? differingFields(expectedDocument(table, row), document) : ['all'];
      return fields.length > 0 ? [`${table} ${row['id']}: ${fields.join(', ')}`] : [];
    });
  }
}
