/**
 * Every error this program ends with, each with its exit code and its cure. Closed: what is not in the table is a fault
 * of the program and halts it. Exit codes: 1 the answer is no, 2 usage or configuration, 3 a server cannot be reached.
 */
export const ERRORS = {
  CONFIG_INVALID: { exit: 2, cure: 'Correct the values named above; .env.example has a line for each variable.' },
  USAGE: { exit: 2, cure: '`dify-es --help` lists the verbs, a verb with --help its options.' },
  DISABLED: { exit: 2, cure: 'Set ELASTICSEARCH_ENABLED=true once the three servers are the right ones.' },
  STOPPED: { exit: 1, cure: 'Run the same command again: what it has done stays done; a look, a comparison and a replay begin anew.' },
  ANSWER_NO: { exit: 1, cure: 'The lines above say what is missing.' },

  PG_UNREACHABLE: { exit: 3, cure: 'Check DB_HOST, DB_PORT and DB_SSL_MODE, and that PostgreSQL accepts connections from here.' },
  PG_AUTH: { exit: 2, cure: 'Check DB_USERNAME, DB_PASSWORD, DB_SSL_MODE and the pg_hba.conf of the server.' },
  PG_TLS: { exit: 2, cure: 'Check DB_SSL_CA, and that the certificate of the server is valid and names DB_HOST; DB_SSL_MODE=require encrypts without that proof.' },
  PG_RIGHTS: { exit: 2, cure: 'Run `dify-es setup --print-sql` and have a superuser run what it prints.' },
  PG_WAL_LEVEL: { exit: 2, cure: 'ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL once.' },
  PG_UNFIT: { exit: 1, cure: 'Nothing was changed. The lines above say what stands in the way.' },
  SETUP_BLOCKED: { exit: 1, cure: 'End what is named above, or run the same command again later: it goes on where it was.' },
  PG_SLOT_MISSING: { exit: 1, cure: 'Run `dify-es setup`; then `dify-es migrate`, since changes may be missing.' },
  PG_SLOT_LOST: { exit: 1, cure: 'Changes are missing that no reader will see. Run `dify-es setup`, start the reader again, then a full `dify-es migrate` and `dify-es validate --full --repair --delete-extra`, since rows may have been deleted meanwhile; status says BACKFILL REQUIRED until both are done.' },
  PG_SLOT_BUSY: { exit: 1, cure: 'Another reader holds the slot. Stop it, or let this one wait.' },
  PG_PUBLICATION_MISSING: { exit: 1, cure: 'Run `dify-es setup`.' },
  PG_SYNC_STANDBY: { exit: 2, cure: 'Take this reader out of synchronous_standby_names: Dify\'s COMMIT would wait for it for ever.' },
  PG_NOT_VISIBLE: { exit: 1, cure: 'A commit stays invisible: a synchronous standby is missing. Bring it back or take it out of synchronous_standby_names.' },
  BARRIER_BLOCKED: { exit: 1, cure: 'End the transaction named above, or run migrate again later.' },
  STREAM_NEVER_RAN: { exit: 1, cure: 'Start `dify-es run` (or `stream` and `sink`) first and leave it running; then migrate.' },
  RUN_OPEN: { exit: 1, cure: 'A backfill with other filters is open. Finish it by running it again, or close it with `dify-es migrate --abandon`.' },
  RUN_VOID: { exit: 1, cure: 'The run was abandoned, or the slot or the source changed while it read. Run `dify-es migrate` again: it starts anew.' },
  TABLE_UNSUITABLE: { exit: 2, cure: 'The backfill reads Dify\'s own plain tables with id, tenant_id and created_at. Leave this table out with --data-type, or make it one.' },
  CLEANUP_RUNNING: { exit: 1, cure: 'Wait until cleanup-pg has ended: a backfill and a clean-up never run at once.' },
  CLEANUP_REFUSED: { exit: 1, cure: 'Let what is named above end (an open backfill: run `dify-es migrate` again, or `dify-es migrate --abandon`), then run cleanup-pg again.' },

  KAFKA_UNREACHABLE: { exit: 3, cure: 'Check KAFKA_BROKERS and KAFKA_SSL, and that the brokers\' advertised listeners can be reached from here.' },
  KAFKA_AUTH: { exit: 2, cure: 'Check KAFKA_SASL_MECHANISM, _USERNAME and _PASSWORD, KAFKA_SSL and KAFKA_SSL_CA, and the rights of that user.' },
  GROUP_BUSY: { exit: 1, cure: 'Stop every `dify-es sink` and `dify-es run` of this group (a killed one leaves it after its session timeout); then run the same command again.' },
  REPLAY_UNFINISHED: { exit: 1, cure: 'Start `dify-es sink` or `dify-es run`: they go on with it from where the group stands, though not for the switched tenants of --force. The same replay again sets the group back once more.' },
  KAFKA_TOPIC_MISSING: { exit: 1, cure: 'Run `dify-es setup`.' },
  KAFKA_DATA_LOST: { exit: 1, cure: 'Run `dify-es setup`, start `dify-es run` again, then a full `dify-es migrate` and `dify-es validate --full --repair --delete-extra`; status says BACKFILL REQUIRED until both are done.' },
  KAFKA_LAYOUT_CHANGED: { exit: 1, cure: 'The number of partitions was changed, so rows would change partition and lose their order. Restore it, or start with a new KAFKA_TOPIC_PREFIX and a full migrate.' },
  KAFKA_FENCED: { exit: 1, cure: 'Another process has taken over this role. Stop one of the two.' },
  SINK_RUNNING: { exit: 1, cure: 'Stop every `dify-es sink` and `dify-es run`, then run the same command again.' },
  KAFKA_SCHEMA_UNKNOWN: { exit: 1, cure: 'The control topic lacks the schema of a record. Was it deleted? Run a full `dify-es migrate`.' },

  ES_UNREACHABLE: { exit: 3, cure: 'Check ELASTICSEARCH_HOSTS and ELASTICSEARCH_USE_SSL.' },
  ES_AUTH: { exit: 2, cure: 'Check ELASTICSEARCH_USERNAME and _PASSWORD, or _API_KEY.' },
  ES_TLS: { exit: 2, cure: 'Check ELASTICSEARCH_CA_CERTS, and that the certificate of the server is valid and names the host; ELASTICSEARCH_VERIFY_CERTS=false only for a test.' },
  ES_RIGHTS: { exit: 2, cure: 'The role needs monitor and manage_index_templates on the cluster, and all on the indices of the prefix.' },

  ES_UNREADABLE: { exit: 1, cure: 'The index named above is closed or a shard of it is missing: look at GET _cluster/allocation/explain and open or restore it.' },
  NOT_DRAINED: { exit: 1, cure: 'See that `dify-es stream` and `dify-es sink` are running (`dify-es status`), then run the same command again.' },

  INTERNAL: { exit: 1, cure: 'This is a fault of the program; please report it with the lines above.' },
} as const satisfies Record<string, { exit: 1 | 2 | 3; cure: string }>;

export type ErrorCode = keyof typeof ERRORS;

/** An error with a code of the table above. `message` is one line for each fault and never holds a row's values or a secret. */
export class DifyEsError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'DifyEsError';
    this.code = code;
  }

  get cure(): string {
    return ERRORS[this.code].cure;
  }

  get exitCode(): 1 | 2 | 3 {
    return ERRORS[this.code].exit;
  }
}
