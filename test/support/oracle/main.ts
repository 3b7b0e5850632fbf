import { runOracle, type OracleReport } from './oracle.ts';
import { settingsFrom } from './settings.ts';

/*
 * `node test/support/oracle/main.ts` with DB_* and ELASTICSEARCH_* set (for the local servers: `set -a; . .local/env`).
 * Compares every row with every document. Ends with 0 when both are equal, 1 when not, 3 when a server cannot be read.
 */

function print({ equal, tables, differences, unknownIndices }: OracleReport): void {
  console.table(tables);
  for (const { table, kind, id, index, fields, example } of differences) console.log(`${kind}: ${table} ${id} in ${index}${fields ? `, fields ${fields.join(', ')}; ${example ?? ''}` : ''}`);
  for (const index of unknownIndices) console.log(`unknown index: ${index}`);
  console.log(equal ? 'equal' : 'NOT EQUAL');
}

try {
  const report = await runOracle(settingsFrom(process.env));
  if (process.argv.includes('--json')) console.log(JSON.stringify(report));
  else print(report);
  process.exitCode = report.equal ? 0 : 1;
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 3;
}
