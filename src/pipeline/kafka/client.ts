import net from 'node:net';
import tls from 'node:tls';
import type { Logger } from 'pino';
import { Kafka, type KafkaClient, type KafkaConfig, logLevel, type SASLOptions } from './kafkajs.ts';

export interface KafkaSettings {
  readonly brokers: readonly string[];
  readonly clientId: string;
  /** PEM text of the CA; `verify: false` only for a test. */
  readonly ssl?: { readonly ca?: string; readonly verify?: boolean };
  readonly sasl?: { readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512'; readonly username: string; readonly password: string };
}

/**
 * The one way to a kafkajs client. Nothing connects before it is used.
 *
 * The retries cover what a healthy cluster does (a coordinator that moves, a leader election): about 6 s together. A
 * cluster that is away longer is the caller's to wait for, because only the caller can say so and stop on SIGTERM.
 */
export function createKafka(settings: KafkaSettings, logger: Logger): KafkaClient {
  const config: KafkaConfig = {
    brokers: [...settings.brokers],
    clientId: settings.clientId,
    connectionTimeout: 3_000,
    authenticationTimeout: 10_000,
    requestTimeout: 30_000,
    retry: { initialRetryTime: 50, multiplier: 2, maxRetryTime: 2_000, retries: 7 },
    socketFactory,
    logLevel: logLevel.INFO,
    logCreator: () => (entry) => writeLog(logger, entry),
  };
  if (settings.ssl) config.ssl = { rejectUnauthorized: settings.ssl.verify ?? true, ...(settings.ssl.ca ? { ca: settings.ssl.ca } : {}) };
  if (settings.sasl) config.sasl = { ...settings.sasl } as SASLOptions;
  return new Kafka(config);
}

/**
 * As kafkajs makes them, but without Nagle's delay, and without Node's warning of a leak: kafkajs unrefs a socket again
 * and again while it connects, and each time Node keeps a listener until it has.
 */
const socketFactory: NonNullable<KafkaConfig['socketFactory']> = ({ host, port, ssl, onConnect }) => {
  const socket = ssl ? tls.connect({ host, port, ...(net.isIP(host) ? {} : { servername: host }), ...ssl }, onConnect) : net.connect({ host, port }, onConnect);
  socket.setMaxListeners(0);
  socket.setNoDelay(true);
  return socket.setKeepAlive(true, 60_000);
};

interface LogEntry {
  readonly namespace: string;
  readonly level: number;
  readonly log: { readonly message: string; readonly [field: string]: unknown };
}

/** Fields that name a place or a count. Anything else might be a payload, and stays out of the log. */
const FIELDS = ['broker', 'groupId', 'memberId', 'topic', 'partition', 'retryCount', 'retryTime', 'error'] as const;

/**
 * kafkajs logs as errors what it then retries: each rebalance, each refused request. What fails in the end is thrown,
 * and logged by whoever catches it; here only the consumer's own troubles are worth a warning.
 */
function writeLog(logger: Logger, { namespace, level, log }: LogEntry): void {
  const fields: Record<string, unknown> = { kafkajs: namespace };
  for (const name of FIELDS) if (typeof log[name] === 'string' || typeof log[name] === 'number') fields[name] = log[name];
  const group = namespace === 'Consumer' || namespace === 'Runner' || namespace === 'ConsumerGroup';
  if (group && level <= logLevel.ERROR) logger.warn(fields, log.message);
  else if (group && level <= logLevel.WARN) logger.info(fields, log.message);
  else logger.debug(fields, log.message);
}

export type { KafkaClient };
