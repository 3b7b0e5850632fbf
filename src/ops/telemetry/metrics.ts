import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';

/*
 * Every name that is exported, in one place: the dashboard and the alert rules in deploy/ are checked against this.
 * Labels are tables, outcomes, causes and operations: closed sets. Never a tenant (there are hundreds, and each would be
 * a series for ever), never a value of a row.
 */

const BULK_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export type Metrics = ReturnType<typeof createMetrics>;

/** `beforeScrape` sets what is known only at the moment of asking. */
export function createMetrics(beforeScrape: () => void = () => {}) {
  const registry = new Registry();
  const registers = [registry];
  const counter = <L extends string = never>(name: string, help: string, labelNames: readonly L[] = []): Counter<L> => new Counter({ name: `dify_es_${name}`, help, labelNames, registers });
  const gauge = <L extends string = never>(name: string, help: string, labelNames: readonly L[] = []): Gauge<L> => {
    const made = new Gauge({ name: `dify_es_${name}`, help, labelNames, registers });
    // prom-client begins at 0; a sink would report a slot that holds nothing back, and hide what the reader says of it
    if (labelNames.length === 0) made.remove();
    return made;
  };
  collectDefaultMetrics({ register: registry });
  return {
    registry,
    // the first of all: the others are read after its collect
    ready: new Gauge({ name: 'dify_es_ready', help: '1 while the part is connected and works, as /readyz says it.', labelNames: ['part'] as const, registers, collect: () => beforeScrape() }),
    stream: {
      receivedLsn: gauge('stream_received_lsn_bytes', 'Position in the log up to which it was read.'),
      confirmedLsn: gauge('stream_confirmed_lsn_bytes', 'Position in the log up to which everything is in Kafka and the slot was confirmed.'),
      unconfirmed: gauge('stream_unconfirmed_bytes', 'Log that is read and not confirmed.'),
      buffered: gauge('stream_buffered_bytes', 'Log that is read and not yet published.'),
      epoch: gauge('stream_epoch', 'Epoch of the source; another one means another source.'),
      lastCommit: gauge('stream_last_commit_timestamp_seconds', 'Commit time of the last transaction that is in Kafka.'),
      lag: gauge('stream_lag_seconds', 'Age of the oldest commit that may not be in Kafka yet; 0 when everything that was read is confirmed.'),
      transactions: counter('stream_transactions_total', 'Transactions published.'),
      published: counter('stream_published_records_total', 'Records published.'),
      made: counter('stream_made_records_total', 'Records made, also those made again after a failure.', ['table', 'op']),
      parked: counter('stream_dead_letters_total', 'Changes that the reader parked.'),
    },
    slot: {
      retained: gauge('slot_retained_bytes', 'WAL that the slot holds back.'),
      limit: gauge('slot_retained_limit_bytes', 'The lower of max_slot_wal_keep_size and WAL_BUDGET; absent without a limit.'),
      share: gauge('slot_retained_ratio', 'Held back as a share of the limit; absent without a limit.'),
      growth: gauge('slot_retained_growth_bytes_per_second', 'Growth of what is held back over ten minutes; negative while the reader catches up.'),
      left: gauge('slot_limit_reached_seconds', 'Until the limit at this rate; absent while it does not grow.'),
      unlimited: gauge('slot_retained_unlimited', '1 when nothing keeps the slot from filling the disk of PostgreSQL.'),
    },
    source: {
      identityBroken: gauge('source_identity_index_broken', '1 when every UPDATE and DELETE of Dify on the table fails: run setup at once.', ['table']),
      unpublished: gauge('source_table_unpublished', '1 when the publication lacks the table: its changes are lost.', ['table']),
    },
    sink: {
      records: counter('sink_records_total', 'Records settled, by what became of them.', ['table', 'outcome']),
      lateWrites: counter('sink_late_writes_total', 'Rows that were written to PostgreSQL after the switch of their tenant, and are in no log page.'),
      invalidJson: counter('sink_invalid_json_documents_total', 'Documents with a JSON column that is kept as text.', ['table']),
      bulkBytes: counter('sink_bulk_bytes_total', 'Bytes sent to Elasticsearch in bulks.', ['table']),
      batchSeconds: new Histogram({ name: 'dify_es_sink_batch_duration_seconds', help: 'From a batch of Kafka to its committed offset.', labelNames: ['table'] as const, buckets: BULK_SECONDS, registers }),
      newest: gauge('sink_last_record_timestamp_seconds', 'Commit time of the newest record that was settled.', ['table']),
      retries: counter('sink_retries_total', 'Requests to Elasticsearch that have to be sent again, by its HTTP status (0: no answer).', ['status']),
      waiting: gauge('sink_waiting_for_elasticsearch', '1 while Elasticsearch takes no documents.'),
    },
    group: { behind: gauge('consumer_lag_records', 'Offsets of the topic that the sinks have not settled: an upper bound of the records.', ['table']) },
    letters: { count: gauge('dead_letters', 'Dead letters by cause and state.', ['table', 'cause', 'state']) },
    backfill: {
      required: gauge('backfill_required', '1 when changes of the table may be missing: run migrate, then validate --full.', ['table']),
      open: gauge('backfill_open_runs', 'Backfills that are not done.'),
      rows: gauge('backfill_rows', 'Rows read by the backfill, also before it was resumed.', ['table']),
      bytes: gauge('backfill_bytes', 'Bytes read by the backfill, also before it was resumed.', ['table']),
      share: gauge('backfill_progress_ratio', 'Pages read as a share of those there were at its barrier.', ['table']),
      left: gauge('backfill_remaining_seconds', 'Until the table is read, at the rate of this process.', ['table']),
    },
    pollErrors: counter('poll_errors_total', 'Times that something beside the rows could not be looked at.', ['what']),
  };
}
