import { CONNECTORS, connectorOfDataType } from '../connector/registry.ts';
import { TABLES } from '../core/contracts.ts';
import { DifyEsError } from '../core/errors.ts';
import { isUuid } from '../core/row-key.ts';
import { runTrace, type TraceRequest } from '../ops/trace/run.ts';
import { verdictOf, type Trace } from '../ops/trace/trace.ts';
import { openPlatform } from '../run/platform.ts';
import { wholeNumber } from './flags.ts';
import { formatBytes, formatCount } from './format.ts';
import type { Output } from './output.ts';
import { createProgress } from './progress.ts';
import { defineVerb } from './verb.ts';

export const trace = defineVerb<TraceRequest>({
  name: 'trace',
  summary: 'one row\'s way: PostgreSQL, its records in Kafka, its document, its dead letters; never its values',
  writes: false,
  declare: (command) =>
    command
      .argument('<table>', 'by its name or as --data-type says it')
      .argument('<id>', 'the id of the row')
      .option('--last <n>', 'search only so many offsets at the end of its partition, instead of all'),
  read(flags, faults) {
    const [name, text] = flags['args'] as [string, string];
    const table = connectorOfDataType(name)?.table ?? Object.values(CONNECTORS).find((connector) => connector.table === name)?.table;
    if (!table) faults.push(`${JSON.stringify(name)} is none of ${TABLES.join(', ')}`);
    const id = text.toLowerCase();
    if (!isUuid(id)) faults.push(`${JSON.stringify(text)} is no uuid`);
    return { table: table ?? 'workflow_runs', id, last: wholeNumber(flags, faults, 'last', '--last', 1, Number.MAX_SAFE_INTEGER) ?? null };
  },
  async run({ config, out, log, signal }, request) {
    const platform = await openPlatform(config, log);
    const view = createProgress(out.json);
    try {
      const found = await runTrace(config, platform, request, signal, (done, total) => view.show({ name: 'partition', done, total, rows: done, bytes: 0 })).finally(() => view.end());
      print(found, out);
      out.result({ ...found, verdict: verdictOf(found) });
      return found.row || found.documents.length > 0 || found.recordsFound > 0 || found.letters.length > 0 ? 0 : 1;
    } catch (error) {
      if (signal.aborted) throw new DifyEsError('STOPPED', 'stopped before the partition was read');
      throw error;
    } finally {
      await platform.close();
    }
  },
});

function print(found: Trace, out: Output): void {
  const { row, records, recordsFound, documents, letters, searched } = found;
  out.line(`PostgreSQL     ${row ? `tenant ${row.tenantId} · created_at ${row.createdAt} · ctid ${row.ctid} · xmin ${row.xmin}${row.committedAt ? ` · committed ${row.committedAt}` : ''}` : 'no such row'}`);
  out.line(`Kafka          ${found.topic} partition ${found.partition} · offsets ${searched.from} to ${searched.to} · sinks at ${searched.sinksAt} · ${formatCount(recordsFound)} records of it${recordsFound > records.length ? `, the last ${records.length}:` : ''}`);
  if (records.length > 0) {
    out.table(['offset', 'op', 'version', 'epoch', 'LSN', 'time', 'tenant', 'created_at', 'value', 'settled'], records.map((record) => [
      record.offset, record.op, record.version ?? '-', record.epoch ?? '-', record.lsn, record.time, record.tenantId, record.createdAt, record.tombstone ? 'tombstone' : formatBytes(record.bytes), record.settled ? 'yes' : 'no',
    ]));
  }
  if (documents.length === 0) out.line('Elasticsearch  no document');
  for (const { index, version, epoch, lsn, seqNo } of documents) out.line(`Elasticsearch  ${index} · version ${version} (${epoch === null ? 'written by Dify itself' : `epoch ${epoch}, ${lsn}`}) · _seq_no ${seqNo}`);
  for (const { id, cause, state, version, at } of letters) out.line(`Dead letter    ${id} · ${cause} · ${state} · version ${version ?? '-'} · ${at}`);
  out.line(`               ${verdictOf(found)}`);
}
