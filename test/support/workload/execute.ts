import type pg from 'pg';
import { copyRows, insertStatement, quote, type TextRow } from '../dify/copy.ts';
import { Random } from '../dify/random.ts';
import type { DifyTable } from '../dify/schema.ts';
import type { CoreKind } from './kinds.ts';
import type { Operation } from './plan.ts';
import { anyTime, hostileColumn, largeChanges, makeRow, smallChanges, toastedJson, type World } from './rows.ts';

/** What an operation needs beside itself. Every connection is one of its own, so that transactions can be open at once. */
export interface Surroundings {
  readonly client: pg.ClientBase;
  readonly world: World;
  readonly columns: ReadonlyMap<DifyTable, readonly string[]>;
  readonly largeRows: number;
  readonly bigRowBytes: number;
  readonly idleMs: number;
  /** Further connections, for the operations that need two writers at the same moment. */
  readonly rivals: readonly pg.ClientBase[];
  /** Gives an open transaction away, to be committed later. */
  hold(begin: (client: pg.ClientBase) => Promise<number>): Promise<number>;
  sleep(ms: number): Promise<void>;
}

type Executor = (operation: Operation, random: Random, around: Surroundings) => Promise<number>;

/** Runs one operation. Resolves with the number of row changes it made, taken back ones included where that is its point; rejects as the server does. */
export function execute(operation: Operation, kind: CoreKind, around: Surroundings): Promise<number> {
  return EXECUTORS[kind](operation, new Random(operation.seed), around);
}

const first = (ids: readonly string[]): string => {
  const id = ids[0];
  if (id === undefined) throw new TypeError('the plan gave this operation no id');
  return id;
};

const changed = async (client: pg.ClientBase, text: string, values: readonly unknown[] = []): Promise<number> => (await client.query(text, [...values])).rowCount ?? 0;

function insert(client: pg.ClientBase, table: DifyTable, row: TextRow, { columns }: Surroundings, suffix = ''): Promise<number> {
  const { text, values } = insertStatement(table, row, columns.get(table));
  return changed(client, text + suffix, values);
}

function update(client: pg.ClientBase, table: DifyTable, ids: readonly string[], changes: TextRow): Promise<number> {
  const names = Object.keys(changes);
  return changed(client, `UPDATE public.${table} SET ${names.map((name, i) => `${quote(name)} = $${i + 2}`).join(', ')} WHERE id = ANY($1)`, [ids, ...Object.values(changes)]);
}

const remove = (client: pg.ClientBase, table: DifyTable, ids: readonly string[]): Promise<number> => changed(client, `DELETE FROM public.${table} WHERE id = ANY($1)`, [ids]);

/** Everything in one transaction, rolled back when a statement of it fails. */
async function transaction(client: pg.ClientBase, work: () => Promise<number>, end: 'COMMIT' | 'ROLLBACK' = 'COMMIT'): Promise<number> {
  await client.query('BEGIN');
  try {
    const rows = await work();
    await client.query(end);
    return rows;
  } catch (error) {
    // The connection may be gone, and then so is the transaction.
    await client.query('ROLLBACK').catch(() => {});
    throw error;
  }
}

async function multiInsert(client: pg.ClientBase, table: DifyTable, rows: readonly TextRow[], { columns }: Surroundings): Promise<number> {
  const names = (columns.get(table) ?? []).filter((name) => name in (rows[0] ?? {}));
  const tuples = rows.map((_, row) => `(${names.map((_name, i) => `$${row * names.length + i + 1}`).join(', ')})`);
  return changed(client, `INSERT INTO public.${table} (${names.map(quote).join(', ')}) VALUES ${tuples.join(', ')} ON CONFLICT DO NOTHING`, rows.flatMap((row) => names.map((name) => row[name] ?? null)));
}

/** The same row again after its delete: another payload, now and then another month. */
async function reinsert(client: pg.ClientBase, { table, ids }: Operation, random: Random, around: Surroundings): Promise<number> {
  return insert(client, table, makeRow(table, first(ids), random, around.world), around, ' ON CONFLICT DO NOTHING');
}

const EXECUTORS: Readonly<Record<CoreKind, Executor>> = {
  'insert': ({ table, freshIds }, random, around) => insert(around.client, table, makeRow(table, first(freshIds), random, around.world), around),
  'insert-multi-row': ({ table, freshIds }, random, around) => multiInsert(around.client, table, freshIds.map((id) => makeRow(table, id, random, around.world)), around),
  'copy': ({ table, freshIds }, random, around) => {
    const rows = freshIds.map((id) => makeRow(table, id, random, around.world));
    return copyRows(around.client, table, (around.columns.get(table) ?? []).filter((name) => name in (rows[0] ?? {})), rows);
  },
  'upsert': async ({ table, ids, freshIds }, random, around) => {
    let rows = 0;
    const set = Object.keys(smallChanges(table, random)).map((name) => `${quote(name)} = excluded.${quote(name)}`).join(', ');
    for (const id of [first(ids), first(freshIds)]) rows += await insert(around.client, table, makeRow(table, id, random, around.world), around, ` ON CONFLICT (id) DO UPDATE SET ${set}`);
    return rows;
  },
  'update': ({ table, ids }, random, { client }) => update(client, table, ids, largeChanges(table, random)),
  'update-unchanged-toast': ({ table, ids }, random, { client }) => update(client, table, ids, smallChanges(table, random)),
  'update-multi-row': ({ table, ids }, random, { client }) => update(client, table, ids, random.chance(0.5) ? smallChanges(table, random) : largeChanges(table, random)),
  'update-hostile-json': ({ table, ids }, random, { client }) => update(client, table, ids, { [random.pick(['inputs', 'outputs'])]: hostileColumn(random) }),
  'update-same-row-twice': ({ table, ids }, random, { client }) => transaction(client, async () => (await update(client, table, ids, largeChanges(table, random))) + (await update(client, table, ids, smallChanges(table, random)))),
  'big-row': ({ table, freshIds }, random, around) => insert(around.client, table, { ...makeRow(table, first(freshIds), random, around.world), inputs: toastedJson(random, around.bigRowBytes) }, around),
  'delete': ({ table, ids }, _, { client }) => remove(client, table, ids),
  'delete-multi-row': ({ table, ids }, _, { client }) => remove(client, table, ids),
  'delete-insert-one-transaction': (operation, random, around) => transaction(around.client, async () => (await remove(around.client, operation.table, operation.ids)) + (await reinsert(around.client, operation, random, around))),
  'delete-insert-two-transactions': async (operation, random, around) => (await remove(around.client, operation.table, operation.ids)) + (await reinsert(around.client, operation, random, around)),
  'delete-copy': async ({ table, ids }, random, around) => {
    const rows = ids.map((id) => makeRow(table, id, random, around.world));
    const names = (around.columns.get(table) ?? []).filter((name) => name in (rows[0] ?? {}));
    const removed = await remove(around.client, table, ids);
    return removed + (await copyRows(around.client, table, names, rows));
  },
  'insert-delete-one-transaction': ({ table, freshIds }, random, around) => transaction(around.client, async () => (await insert(around.client, table, makeRow(table, first(freshIds), random, around.world), around)) + (await remove(around.client, table, freshIds))),
  'move-tenant': ({ table, ids }, random, { client, world }) => changed(client, `UPDATE public.${table} SET tenant_id = CASE WHEN tenant_id = $2 THEN $3::uuid ELSE $2::uuid END WHERE id = ANY($1)`, [ids, random.pick(world.tenants), world.tenants[0]]),
  'move-month': ({ table, ids }, random, { client, world }) => update(client, table, ids, { created_at: anyTime(random, random.pick(world.months)) }),
  'move-within-month': ({ table, ids }, _, { client }) => changed(client, `UPDATE public.${table} SET created_at = date_trunc('month', created_at) + ((extract(day FROM created_at)::int % 27) + 1) * interval '1 day' + interval '0.25 second' WHERE id = ANY($1)`, [ids]),
  'move-and-back': ({ table, ids }, random, { client, world }) => transaction(client, async () => {
    const away = await changed(client, `UPDATE public.${table} SET created_at = created_at + interval '31 days', tenant_id = $2 WHERE id = ANY($1)`, [ids, random.pick(world.tenants)]);
    return away + (await changed(client, `UPDATE public.${table} SET created_at = created_at - interval '31 days' WHERE id = ANY($1)`, [ids]));
  }),
  'change-id': ({ table, ids, freshIds }, _, { client }) => changed(client, `UPDATE public.${table} SET id = $2 WHERE id = $1`, [first(ids), first(freshIds)]),
  'savepoint-rolled-back': ({ table, ids, freshIds }, random, around) => transaction(around.client, async () => {
    const kept = await update(around.client, table, ids.slice(0, 1), smallChanges(table, random));
    await around.client.query('SAVEPOINT a');
    await update(around.client, table, ids, largeChanges(table, random));
    await insert(around.client, table, makeRow(table, freshIds[1] ?? '', random, around.world), around);
    await remove(around.client, table, ids.slice(1));
    await around.client.query('ROLLBACK TO SAVEPOINT a');
    return kept + (await insert(around.client, table, makeRow(table, first(freshIds), random, around.world), around));
  }),
  'savepoint-released': ({ table, ids, freshIds }, random, around) => transaction(around.client, async () => {
    await around.client.query('SAVEPOINT a');
    const inner = await insert(around.client, table, makeRow(table, first(freshIds), random, around.world), around);
    await around.client.query('SAVEPOINT b');
    const nested = await update(around.client, table, [...ids, first(freshIds)], smallChanges(table, random));
    await around.client.query('RELEASE SAVEPOINT a');
    return inner + nested;
  }),
  'rolled-back': ({ table, ids, freshIds }, random, around) => transaction(around.client, async () => {
    const rows = (await insert(around.client, table, makeRow(table, first(freshIds), random, around.world), around)) + (await update(around.client, table, ids, largeChanges(table, random)));
    return rows + (await remove(around.client, table, ids));
  }, 'ROLLBACK'),
  'failed-transaction': async ({ table, ids, freshIds }, random, around) => {
    const row = makeRow(table, first(freshIds), random, around.world);
    const failed = transaction(around.client, async () => {
      await remove(around.client, table, ids);
      return (await insert(around.client, table, row, around)) + (await insert(around.client, table, row, around));
    });
    return failed.then(() => 0, (error: { code?: string }) => (error.code === '23505' ? 1 : Promise.reject(error as Error)));
  },
  'mixed-transaction': ({ table, ids, freshIds }, random, around) => transaction(around.client, async () => {
    let rows = 0;
    for (const other of around.columns.keys()) rows += await insert(around.client, other, makeRow(other, random.uuid(), random, around.world), around);
    rows += await multiInsert(around.client, table, freshIds.map((id) => makeRow(table, id, random, around.world)), around);
    return rows + (await update(around.client, table, ids, smallChanges(table, random))) + (await remove(around.client, table, ids.slice(1)));
  }),
  'concurrent-writers': async (operation, random, around) => {
    const { table, ids } = operation;
    const [a = around.client, b = around.client] = around.rivals;
    const forks = [random.fork(), random.fork(), random.fork()] as const;
    const results = await Promise.allSettled([
      update(around.client, table, ids, largeChanges(table, forks[0])),
      transaction(a, async () => (await remove(a, table, ids)) + (await reinsert(a, operation, forks[1], around))),
      random.chance(0.5) ? update(b, table, ids, smallChanges(table, forks[2])) : reinsert(b, operation, forks[2], around),
    ]);
    const failure = results.find((result) => result.status === 'rejected');
    if (failure) throw failure.reason;
    return results.reduce((sum, result) => sum + (result.status === 'fulfilled' ? result.value : 0), 0);
  },
  'held-open': ({ table, ids, freshIds }, random, around) => around.hold(async (client) => {
    const rows = (await insert(client, table, makeRow(table, first(freshIds), random, around.world), around)) + (await update(client, table, ids, largeChanges(table, random)));
    return rows + (await insert(client, table, makeRow(table, freshIds[1] ?? '', random, around.world), around));
  }),
  'large-insert': (_, random, { client, world, largeRows }) => changed(client, `INSERT INTO public.workflow_app_logs (id, tenant_id, app_id, workflow_id, workflow_run_id, created_from, created_by_role, created_by, created_at)
    SELECT md5($1::text || i)::uuid, ($2::uuid[])[1 + i % cardinality($2::uuid[])], $3, $3, $3, 'large', 'account', $3, $4::timestamp + i * interval '1 millisecond' FROM generate_series(1, $5::int) i`,
    [largeSeed(world), world.tenants, random.uuid(), `${world.months[0]}-05 00:00:00`, largeRows]),
  'large-update': (_, random, { client }) => changed(client, "UPDATE public.workflow_app_logs SET workflow_id = $1 WHERE created_from = 'large'", [random.uuid()]),
  'large-delete': (_, __, { client }) => changed(client, "DELETE FROM public.workflow_app_logs WHERE created_from = 'large' AND extract(milliseconds FROM created_at)::int % 10 <> 0"),
  'idle': async (_, __, { sleep, idleMs }) => {
    await sleep(idleMs);
    return 0;
  },
};

/** The ids of the large insert follow from the tenants, which follow from the seed. */
function largeSeed(world: World): string {
  return world.tenants.join();
}
