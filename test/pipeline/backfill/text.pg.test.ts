import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Cells, Tuple } from '../../../src/core/cells.ts';
import type { RowShape } from '../../../src/core/contracts.ts';
import { PgoutputDecoder } from '../../../src/pipeline/decode/pgoutput.ts';
import { valuesOf } from '../../support/cells.ts';
import { createDifySchema, DIFY_TABLES, type DifyTable } from '../../support/dify/schema.ts';
import { insertRows } from '../../support/dify/copy.ts';
import { edgeCaseRows } from '../../support/dify/edge-cases.ts';
import { isolate } from '../../support/servers.ts';
import { backfill, pinned } from './harness.ts';
import { MemoryKafka } from './memory-kafka.ts';

const here = isolate(import.meta.filename);
let client: pg.Client;

/** Type, and values of it whose text has more than one possible form. */
const TYPES: readonly (readonly [type: string, ...values: string[]])[] = [
  ['boolean', "'t'", "'f'"],
  ['numeric', "'NaN'", "'-Infinity'", "'1e-20'", "'12345678901234567890.1000'"],
  ['numeric(10,2)', "'1'"],
  ['real', "'0.1'", "'1e30'", "'NaN'"],
  ['double precision', "'0.1'", "'1e300'", "'-0'", "'Infinity'", "'0.30000000000000004'"],
  ['bigint', "'9223372036854775807'"],
  ['smallint', "'-32768'"],
  ['json', `'{"b": 1,  "a":2, "a":3}'`],
  ['jsonb', `'{"b": 1,  "a":2, "a":3}'`],
  ['bytea', "'\\x00ff5c'", "''"],
  ['character(5)', "'ab'", "''"],
  ['"char"', "'x'", "''"],
  ['name', "'a name'"],
  ['text', "E'a\\tb\\\\c\\nd'", "''", "'\u{1F600} Zürich'"],
  ['integer[]', "'{1,NULL,3}'", "'{}'", "'[0:1]={1,2}'"],
  ['text[]', `'{"a b",NULL,"NULL","x\\"y",""}'`],
  ['character(3)[]', "'{a,bc}'"],
  ['boolean[]', "'{t,f,NULL}'"],
  ['timestamp', "'2026-08-01 00:00:00.123400'", "'infinity'", "'0044-03-15 BC'", "'12026-01-01'"],
  ['timestamp(0)', "'2026-08-01 00:00:00.6'"],
  ['timestamptz', "'2026-08-01 00:00:00+05:30'", "'-infinity'"],
  ['date', "'2026-08-01'", "'infinity'"],
  ['time', "'24:00:00'", "'01:02:03.5'"],
  ['timetz', "'01:02:03+02'"],
  ['interval', "'1 year 2 mons -3 days 04:05:06.7'", "'-1 sec'"],
  ['inet', "'192.168.0.1'", "'10.0.0.0/8'", "'::1'"],
  ['cidr', "'10.0.0.0/8'"],
  ['macaddr', "'08:00:2b:01:02:03'"],
  ['money', "'1234.5'"],
  ['point', "'(0.1,2)'"],
  ['bit varying(9)', "'10101'"],
  ['tsvector', "'a:1 b:2'"],
  ['int4range', "'[1,5]'"],
  ['pg_lsn', "'A/0'"],
  ['oid', "'4294967295'"],
  ['regclass', "'workflow_runs'"],
  ['mood', "'so so'"],
  ['padded', "'ab'"],
  ['flag', "'t'"],
  ['pair', `'(1,"a b")'`, "'(,)'"],
  ['uuid', "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"],
];

beforeAll(async () => {
  client = await pinned(here)();
  // The connection pins its settings against these.
  await client.query(`ALTER DATABASE ${here.database} SET DateStyle = 'SQL, DMY'; ALTER DATABASE ${here.database} SET extra_float_digits = 0;
    ALTER DATABASE ${here.database} SET IntervalStyle = 'iso_8601'; ALTER DATABASE ${here.database} SET bytea_output = 'escape'; ALTER DATABASE ${here.database} SET TimeZone = 'Asia/Kolkata'`);
  await client.end();
  client = await pinned(here)();
  await createDifySchema(client);
  await client.query(`CREATE TYPE mood AS ENUM ('so so', 'fine'); CREATE DOMAIN padded AS character(6); CREATE DOMAIN flag AS boolean; CREATE TYPE pair AS (a integer, b text)`);
  for (const [at, [type]] of TYPES.entries()) await client.query(`ALTER TABLE workflow_app_logs ADD COLUMN "Type ${at} ""${type.replaceAll('"', '""')}""" ${type}`);
  await client.query('ALTER TABLE workflow_app_logs ADD COLUMN computed text GENERATED ALWAYS AS (created_from) STORED');
  await client.query(`CREATE PUBLICATION ${here.publication} FOR ALL TABLES`);
  await client.query(`SELECT pg_create_logical_replication_slot('${here.slot}', 'pgoutput')`);
});
afterAll(() => client.end());

/** What pgoutput sends of each insert, by table and id: column → text. */
async function fromStream(): Promise<Map<string, Record<string, string | null>>> {
  const decoder = new PgoutputDecoder();
  const { rows } = await client.query(`SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', $2)`, [here.slot, here.publication]);
  const found = new Map<string, Record<string, string | null>>();
  for (const { data } of rows as { data: Buffer }[]) {
    const message = decoder.decode(data);
    if (message.kind !== 'insert') continue;
    const { shape } = message.relation;
    const row = bytesOf(shape, message.tuple);
    found.set(`${shape.table} ${row['id']}`, row);
  }
  return found;
}

/** Column → bytes, as a text that has a character for each byte. */
function bytesOf(shape: RowShape, cells: Cells | Tuple): Record<string, string | null> {
  const values = valuesOf(cells);
  return Object.fromEntries(shape.columns.map((column, at) => [column, Buffer.isBuffer(values[at]) ? values[at].toString('latin1') : null]));
}

test('every value of every type is byte for byte what pgoutput sends for it', async () => {
  for (const table of DIFY_TABLES) {
    const { rows, deadLetters } = edgeCaseRows({ largest: 200_000 });
    await insertRows(client, table as DifyTable, rows[table]);
    await insertRows(client, table as DifyTable, deadLetters[table]);
  }
  const most = Math.max(...TYPES.map(([, ...values]) => values.length));
  const quoted = TYPES.map(([type], at) => `"Type ${at} ""${type.replaceAll('"', '""')}"""`);
  for (let n = 0; n <= most; n++) {
    const values = TYPES.map(([type, ...some]) => (some[n] === undefined ? 'NULL' : `${some[n]}::${type}`));
    await client.query(
      `INSERT INTO workflow_app_logs (tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by, ${quoted.join(', ')})
       SELECT g, g, g, g, 'web-app', 'account', g, ${values.join(', ')} FROM gen_random_uuid() g`,
    );
  }
  const kafka = new MemoryKafka();
  await backfill(here, kafka);
  const streamed = await fromStream();
  expect(streamed.size).toBeGreaterThan(30);
  const read = new Map(kafka.committed().map((record) => [
    `${record.table} ${record.key.id}`,
    record.row ? bytesOf(record.row.shape, record.row.cells) : {},
  ]));
  expect([...read.keys()].sort()).toEqual([...streamed.keys()].sort());
  for (const [id, row] of streamed) expect({ id, ...read.get(id) }).toEqual({ id, ...row });
  // The casts that differ from the output functions were really met.
  const texts = new Set([...streamed.values()].flatMap((row) => Object.values(row)));
  for (const text of ['t', 'ab   ', '192.168.0.1', 'ab    ']) expect(texts).toContain(text);
});
