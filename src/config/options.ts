import { z } from 'zod';

/** One variable of the environment: declared here and nowhere else. */
export interface Option<T> {
  readonly env: string;
  /** From the text of the environment. A missing variable takes `fallback`, which is written as a user would write it. */
  readonly type: z.ZodType<T>;
  readonly fallback: string;
  /** Never shown; also read from the file that `{env}_FILE` names. */
  readonly secret?: true;
  /** One line for .env.example: what it is, with its unit, and what it costs. */
  readonly doc: string;
}

/** Dify's own name for a switch: true/false, also 1/0, yes/no, on/off. */
const flag = z
  .string()
  .trim()
  .toLowerCase()
  .refine((text) => /^(true|false|1|0|yes|no|on|off)$/.test(text), 'is neither true nor false')
  .transform((text) => /^(true|1|yes|on)$/.test(text));

const whole = (min: number, max: number): z.ZodType<number> =>
  z
    .string()
    .trim()
    .refine((text) => /^\d{1,15}$/.test(text) && Number(text) >= min && Number(text) <= max, `is no whole number from ${min} to ${max}`)
    .transform(Number);

const anyText = z.string().trim();
const secretText = z.string();
const oneOf = <const T extends readonly string[]>(...values: T): z.ZodType<T[number]> =>
  anyText.refine((text) => values.includes(text), `is none of ${values.join(', ')}`).transform((text) => text as T[number]);

/** Part of an index or topic name; upper case and wildcards would break it or reach other people's data. */
const namePart = anyText.refine((text) => /^[a-z0-9][a-z0-9_-]{0,60}$/.test(text), 'is no lower-case name of letters, digits, - and _');

/** PostgreSQL allows lower-case letters, digits and underscore in the name of a slot. */
const slotName = anyText.refine((text) => /^[a-z0-9_]{1,63}$/.test(text), 'is no name of lower-case letters, digits and _ (at most 63)');

/**
 * A JSON list, as Dify's guide writes it. A shell that reads `.env` eats the inner quotes (`[http://a:9200]`), so the
 * list is read with or without them, and a bare comma list too.
 */
const hostList = anyText.transform((text, context) => {
  const parts = text.replace(/^\[|\]$/g, '').split(',').map((part) => part.trim().replace(/^["']|["']$/g, '')).filter(Boolean);
  if (parts.length === 0) context.issues.push({ code: 'custom', message: 'is an empty list', input: text });
  for (const part of parts) {
    const url = URL.parse(part.includes('://') ? part : `http://${part}`);
    if (!url || !/^https?:$/.test(url.protocol)) context.issues.push({ code: 'custom', message: 'is no list of hosts like ["http://localhost:9200"]', input: text });
    // the URLs of nodes are printed in places where a password must not be
    else if (url.username || url.password) context.issues.push({ code: 'custom', message: 'names a user: give ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD instead', input: text });
  }
  return parts;
});

const brokerList = anyText.transform((text, context) => {
  const parts = text.replace(/^\[|\]$/g, '').split(',').map((part) => part.trim().replace(/^["']|["']$/g, '')).filter(Boolean);
  if (parts.length === 0 || parts.some((part) => !/^[^\s:/]+:\d{1,5}$/.test(part))) context.issues.push({ code: 'custom', message: 'is no list like host:9092,host2:9092', input: text });
  return parts;
});

/** `30s`, `500ms`, `-1` (never): Elasticsearch's own time units. */
const isInterval = (text: string): boolean => /^(-1|\d+(ms|s|m|h))$/.test(text);
const interval = anyText.refine(isInterval, 'is no time like 30s, 500ms or -1');
const optionalInterval = anyText.refine((text) => text === '' || isInterval(text), 'is no time like 30s, 500ms or -1');

/** Bytes, with kB/MB/GB as powers of 1024 as PostgreSQL has them; `0` means no limit where the line says so. */
const bytes = anyText.transform((text, context) => {
  const match = /^(\d{1,15})\s*(B|kB|MB|GB|TB)?$/i.exec(text);
  if (!match) context.issues.push({ code: 'custom', message: 'is no size like 64MB', input: text });
  const power = ['b', 'kb', 'mb', 'gb', 'tb'].indexOf((match?.[2] ?? 'B').toLowerCase());
  return Number(match?.[1] ?? 0) * 1024 ** power;
});

const option = <T>(env: string, type: z.ZodType<T>, fallback: string, doc: string): Option<T> => ({ env, type, fallback, doc });
const secret = (env: string, doc: string): Option<string> => ({ env, type: secretText, fallback: '', secret: true, doc });

/** Grouped as .env.example prints them. An empty text means "not set" for every optional one. */
export const OPTIONS = {
  elasticsearch: {
    enabled: option('ELASTICSEARCH_ENABLED', flag, 'false', 'The verbs that write refuse until this is true.'),
    hosts: option('ELASTICSEARCH_HOSTS', hostList, '["http://localhost:9200"]', 'JSON list of nodes, with or without its quotes.'),
    username: option('ELASTICSEARCH_USERNAME', anyText, '', 'User for basic authentication; empty: none.'),
    password: secret('ELASTICSEARCH_PASSWORD', 'Its password.'),
    apiKey: secret('ELASTICSEARCH_API_KEY', 'An encoded API key, used instead of user and password.'),
    useSsl: option('ELASTICSEARCH_USE_SSL', flag, 'false', 'Speak TLS to hosts that are written without a scheme or with http.'),
    verifyCerts: option('ELASTICSEARCH_VERIFY_CERTS', flag, 'true', 'Refuse certificates that the CA did not sign; false only for a test.'),
    caCerts: option('ELASTICSEARCH_CA_CERTS', anyText, '', 'Path of the CA file (PEM).'),
    timeoutSeconds: option('ELASTICSEARCH_TIMEOUT', whole(1, 3600), '30', 'Seconds until a request counts as lost.'),
    maxRetries: option('ELASTICSEARCH_MAX_RETRIES', whole(0, 100), '3', 'Retries of a read; bulks have their own rules and are never repeated by the client.'),
    indexPrefix: option('ELASTICSEARCH_INDEX_PREFIX', namePart, 'dify', 'Beginning of every index and template name.'),
    retentionDays: option('ELASTICSEARCH_RETENTION_DAYS', whole(1, 100_000), '30', 'Months older than this many days are dropped by `retention`, and counted by `migrate --dry-run`.'),
    shards: option('ELASTICSEARCH_INDEX_SHARDS', whole(1, 1024), '1', 'Primary shards of a new index.'),
    replicas: option('ELASTICSEARCH_INDEX_REPLICAS', whole(0, 20), '0', 'Replicas of a new index.'),
    refreshInterval: option('ELASTICSEARCH_INDEX_REFRESH', interval, '30s', 'How soon a document can be found by search; `cutover --prepare` sets 1s.'),
    backfillReplicas: option('ELASTICSEARCH_BACKFILL_REPLICAS', whole(0, 20), '0', 'Replicas, if fewer, of indices made while a backfill reads; a sink puts them back when it is over. Until then a lost node takes them away, and a replay brings them back.'),
    backfillRefreshInterval: option('ELASTICSEARCH_BACKFILL_REFRESH', optionalInterval, '', 'Refresh interval, if longer, of indices made while a backfill reads, put back likewise; empty: as ELASTICSEARCH_INDEX_REFRESH.'),
    totalFieldsLimit: option('ELASTICSEARCH_INDEX_TOTAL_FIELDS', whole(100, 100_000), '2000', 'index.mapping.total_fields.limit of a new index.'),
    searchText: option('ELASTICSEARCH_SEARCH_TEXT', flag, 'true', 'Index the words of inputs, outputs, error and title for `search`; false is faster and smaller.'),
    bulkBytes: option('ELASTICSEARCH_BULK_BYTES', bytes, '8MB', 'Upper bound of one bulk request; it shrinks by itself when the cluster is slow.'),
  },
  postgres: {
    url: secret('DATABASE_URL', 'postgres://user:password@host:port/database; counts instead of the five DB_ variables.'),
    host: option('DB_HOST', anyText, 'localhost', 'As Dify names it.'),
    port: option('DB_PORT', whole(1, 65_535), '5432', 'As Dify names it.'),
    username: option('DB_USERNAME', anyText, 'postgres', 'Needs REPLICATION and SELECT; setup needs to own the tables. `setup --print-sql` prints the grants.'),
    password: secret('DB_PASSWORD', 'As Dify names it.'),
    database: option('DB_DATABASE', anyText, 'dify', 'As Dify names it.'),
    sslMode: option('DB_SSL_MODE', oneOf('disable', 'require', 'verify-full'), 'disable', 'disable, require (encrypted, unproven) or verify-full.'),
    sslCa: option('DB_SSL_CA', anyText, '', 'Path of the CA file (PEM) for verify-full.'),
    schema: option('DB_SCHEMA', anyText, 'public', 'Schema of Dify\'s tables.'),
    slot: option('CDC_SLOT', slotName, 'dify_es', 'Replication slot; two installations on one server need two.'),
    publication: option('CDC_PUBLICATION', slotName, 'dify_es', 'Publication with Dify\'s tables.'),
    deletePolicy: option('DELETE_POLICY', oneOf('apply', 'ignore'), 'apply', 'What a DELETE in PostgreSQL does to the document: apply deletes it, ignore keeps it; cleanup-pg never deletes any.'),
    truncatePolicy: option('TRUNCATE_POLICY', oneOf('ignore', 'apply'), 'ignore', 'What a TRUNCATE does: ignore keeps the history in Elasticsearch, apply deletes it.'),
    walBudget: option('WAL_BUDGET', bytes, '0', 'WAL the slot may hold back, beside max_slot_wal_keep_size; held only while a reader runs. 0: no budget of our own.'),
    walBudgetAction: option('WAL_BUDGET_ACTION', oneOf('alert', 'drop-slot'), 'alert', 'Past the budget: alert says so, drop-slot gives the slot up to save the disk (then a full migrate is due).'),
  },
  kafka: {
    brokers: option('KAFKA_BROKERS', brokerList, 'localhost:9092', 'host:port, comma separated.'),
    ssl: option('KAFKA_SSL', flag, 'false', 'Speak TLS to the brokers.'),
    sslCa: option('KAFKA_SSL_CA', anyText, '', 'Path of the CA file (PEM).'),
    sslVerify: option('KAFKA_SSL_VERIFY', flag, 'true', 'Refuse certificates that the CA did not sign.'),
    saslMechanism: option('KAFKA_SASL_MECHANISM', oneOf('', 'plain', 'scram-sha-256', 'scram-sha-512'), '', 'plain, scram-sha-256 or scram-sha-512; empty: no authentication.'),
    saslUsername: option('KAFKA_SASL_USERNAME', anyText, '', 'User of the brokers.'),
    saslPassword: secret('KAFKA_SASL_PASSWORD', 'Its password.'),
    topicPrefix: option('KAFKA_TOPIC_PREFIX', namePart, 'dify', 'Topics are {prefix}.cdc.{table}, {prefix}.cdc.control and {prefix}.cdc.dlq.'),
    group: option('KAFKA_CONSUMER_GROUP', anyText.refine((text) => /^[A-Za-z0-9._-]{1,200}$/.test(text), 'is no name of a consumer group'), 'dify-es-sink', 'Consumer group of the sinks.'),
    partitions: option('KAFKA_PARTITIONS', whole(1, 1000), '6', 'Partitions of each table\'s topic, fixed once they exist: the most sinks that can share the work.'),
    replicationFactor: option('KAFKA_REPLICATION_FACTOR', whole(1, 15), '1', 'Copies of each topic; with 3 a broker may die.'),
    compression: option('KAFKA_COMPRESSION', oneOf('zstd', 'gzip', 'none'), 'zstd', 'Of the records on the brokers: zstd, gzip or none.'),
    sessionTimeoutMs: option('KAFKA_SESSION_TIMEOUT_MS', whole(6000, 300_000), '30000', 'How long a dead sink holds its partitions, and a dead migrate its ranges.'),
  },
  program: {
    toastCacheBytes: option('STREAM_CACHE_BYTES', bytes, '64MB', 'Rows kept by the reader to fill unchanged TOAST columns without asking PostgreSQL.'),
    batchBytes: option('STREAM_BATCH_BYTES', bytes, '8MB', 'Most bytes of one Kafka transaction of the reader.'),
    workers: option('MIGRATE_WORKERS', whole(1, 64), '2', 'Parallel readers of the backfill (also --workers).'),
    batchSize: option('MIGRATE_BATCH_SIZE', whole(10, 100_000), '2000', 'Rows a chunk of the backfill aims at (also --batch-size).'),
    barrierTimeoutSeconds: option('MIGRATE_BARRIER_TIMEOUT', whole(1, 86_400), '300', 'Seconds the backfill waits for transactions that were open before it.'),
    maxLagBytes: option('MIGRATE_MAX_LAG', bytes, '1GB', 'WAL by which the reader, or a physical standby, may be behind before the backfill waits for it; 0: never.'),
    maxStandbyLagSeconds: option('MIGRATE_MAX_STANDBY_LAG', whole(0, 86_400), '30', 'Seconds by which a physical standby may be behind before the backfill waits; 0: never.'),
    maxWaiting: option('MIGRATE_MAX_WAITING', whole(0, 100_000), '20', 'Sessions of others that wait (lock, buffer, disk) in the middle of a statement before the backfill waits; 0: never.'),
    logLevel: option('LOG_LEVEL', oneOf('trace', 'debug', 'info', 'warn', 'error', 'silent'), 'info', 'Least level of the JSON lines on standard error: trace, debug, info, warn, error or silent.'),
    metricsPort: option('METRICS_PORT', whole(0, 65_535), '0', 'Port for /metrics, /healthz and /readyz of the long-running verbs; 0: none.'),
    metricsHost: option('METRICS_HOST', anyText, '127.0.0.1', 'Address for them.'),
    consolePort: option('CONSOLE_PORT', whole(0, 65_535), '0', 'Port of the console in `run`; 0: none there. `dify-es console` takes it too, else 9465.'),
    consoleHost: option('CONSOLE_HOST', anyText, '127.0.0.1', 'Address of the console, which shows the rows of runs: any but loopback needs a token.'),
    consoleToken: secret('CONSOLE_TOKEN', 'Asked for by the console, at least 16 characters; empty: none, on loopback alone.'),
  },
} as const;

export type OptionGroup = keyof typeof OPTIONS;

/** Every option, in the order of .env.example. */
export function allOptions(): { group: OptionGroup; name: string; option: Option<unknown> }[] {
  return Object.entries(OPTIONS).flatMap(([group, options]) =>
    Object.entries(options).map(([name, option]) => ({ group: group as OptionGroup, name, option: option as Option<unknown> })),
  );
}
