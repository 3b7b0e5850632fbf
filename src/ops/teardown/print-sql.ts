import { TABLES } from '../../core/contracts.ts';
import type { SourceNames } from '../setup/fitness.ts';
import { comment, statement } from '../setup/print-sql.ts';
import { WITHOUT_TIMEOUTS, dropIdentityIndex, dropPublication, dropSlot, setReplicaIdentity } from '../setup/sql.ts';
import type { SourceRemains } from './source.ts';

/**
 * The statements of teardown for an owner or superuser to run, in the order that never stops Dify; everything, with the
 * identity back to DEFAULT, when `remains` is null because nobody could look.
 */
export function teardownSql(remains: Pick<SourceRemains, 'plans'> | null, names: SourceNames): string {
  const plans = remains?.plans ?? TABLES.map((table) => ({ table, restore: { kind: 'default' as const }, dropIndex: true, keptFor: null }));
  const blocks = [
    comment(
      `dify-es teardown for database ${names.database}, schema ${names.schema}. Stop the reader first, then run it with psql -v ON_ERROR_STOP=1`,
      'in this order, outside a transaction: an index that is dropped while it is the replica identity makes UPDATE and DELETE fail.',
      remains ? 'It holds what is still there.' : 'Nobody could look at the server, so it holds everything; leave out a table that this Dify does not have.',
    ),
    statement(dropPublication(names.publication)),
    statement(dropSlot(names.slot)),
    ...plans.flatMap(({ table, restore, dropIndex, keptFor }) => {
      if (keptFor !== null) return [comment(`${table}: left as it is, since publication ${keptFor} of another installation needs its index.`)];
      return [
        ...(restore ? [comment(`${table}: if the lock cannot be had, run the part from BEGIN to COMMIT again.`), ...setReplicaIdentity(names.schema, table, restore).map(statement)] : []),
        ...(dropIndex ? [WITHOUT_TIMEOUTS, dropIdentityIndex(names.schema, table)].map(statement) : []),
      ];
    }),
  ];
  return `${blocks.join('\n')}\n`;
}
