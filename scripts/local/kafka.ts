import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { LocalFault } from './fault.ts';
import { foldersOf } from './folders.ts';
import { findJava } from './java.ts';
import { cached, copyDependencies } from './maven.ts';
import { choosePort, freePort } from './ports.ts';
import { startDetached } from './process.ts';
import { run } from './run.ts';
import type { LocalServer, ServerOptions } from './server.ts';
import { SHORT_LIVED, controlServer } from './server.ts';
import type { Secrets } from './secure.ts';
import { secretsOf } from './secure.ts';
import { readState } from './state.ts';

export const KAFKA_VERSION = '4.1.1';
const USER = 'dify';
const POM = join(import.meta.dirname, 'kafka-pom.xml');

export interface KafkaOptions extends ServerOptions {
  /** 16 bytes in base64url (KIP-78), the same for all brokers of a cluster; without it a new one. */
  readonly clusterId?: string;
}

/** One Kafka process, broker and controller (KRaft); it answers on return. */
export async function startKafka(options: KafkaOptions = {}): Promise<LocalServer> {
  const java = join(findJava('Kafka', 17, undefined), 'bin/java');
  // Kafka runs as whoever we are: unlike the other two it does not mind root.
  const { dir, home, logFile, remove } = foldersOf('kafka', KAFKA_VERSION, options, undefined);
  const port = await choosePort('Kafka', '--kafka-port', options.port, readState(dir, 'kafka')?.port);
  const controllerPort = await freePort();
  const libs = await cached(`kafka-${KAFKA_VERSION}`, undefined, (target) => copyDependencies(POM, target));
  const properties = join(home, 'server.properties');
  const data = join(home, 'data');
  const secrets = options.secure ? await secretsOf(dir) : undefined;
  writeProperties(properties, { ...brokerSettings(port, controllerPort, data), ...(secrets === undefined ? {} : secureSettings(home, secrets)), ...options.settings });
  writeFileSync(join(home, 'log4j2.properties'), LOGGING);
  if (!existsSync(join(data, 'meta.properties'))) await format(java, libs, home, data, options.clusterId ?? newClusterId(), secrets);

  const brokers = `127.0.0.1:${port}`;
  const plan = {
    dir, label: `Kafka ${KAFKA_VERSION}`, stopSignal: 'SIGTERM' as const, remove,
    state: { kind: 'kafka' as const, version: KAFKA_VERSION, secure: options.secure ?? false, host: '127.0.0.1', port, url: brokers, home, logFile, env: environment(brokers, secrets) },
    launch: async () => startDetached({ command: java, args: [...(options.shortLived ? [SHORT_LIVED] : []), '-Xms256m', '-Xmx512m', '-XX:+ExitOnOutOfMemoryError', ...javaArgs(libs, home), 'kafka.Kafka', properties], cwd: home, env: {}, logFile, user: undefined }),
    answers: () => answers(brokers, secrets),
  };
  const server = controlServer(plan, null);
  await server.start();
  return server;
}

/** For one broker that is its own controller. docker-compose.yml says the same; a test compares them. */
export function brokerSettings(port: number, controllerPort: number, data: string): Record<string, string> {
  return {
    'process.roles': 'broker,controller',
    'node.id': '1',
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
    listeners: `CLIENT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    'advertised.listeners': `CLIENT://127.0.0.1:${port}`,
    'listener.security.protocol.map': 'CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': 'CLIENT',
    'log.dirs': data,
    'auto.create.topics.enable': 'false',
    'num.partitions': '1',
    // One broker: the defaults of three replicas and two in sync would leave groups and transactions without a home.
    'offsets.topic.replication.factor': '1',
    'transaction.state.log.replication.factor': '1',
    'transaction.state.log.min.isr': '1',
    'share.coordinator.state.topic.replication.factor': '1',
    'share.coordinator.state.topic.min.isr': '1',
    'min.insync.replicas': '1',
    // 50 partitions each by default, which a single small process takes seconds to create and to load.
    'offsets.topic.num.partitions': '5',
    'transaction.state.log.num.partitions': '5',
    'group.initial.rebalance.delay.ms': '0',
    'group.min.session.timeout.ms': '1000',
    'log.cleaner.enable': 'true',
    // Of the 512 MB heap; 128 MB by default.
    'log.cleaner.dedupe.buffer.size': String(32 << 20),
  };
}

/** TLS and SCRAM for clients; the controller is reached by this process alone. */
function secureSettings(home: string, secrets: Secrets): Record<string, string> {
  const keystore = join(home, 'server.pem');
  const truststore = join(home, 'ca.pem');
  writeFileSync(keystore, `${secrets.key}\n${secrets.cert}\n`, { mode: 0o600 });
  writeFileSync(truststore, secrets.ca);
  return {
    'listener.security.protocol.map': 'CLIENT:SASL_SSL,CONTROLLER:PLAINTEXT',
    'sasl.enabled.mechanisms': 'SCRAM-SHA-512',
    // The broker is a client of its own listener too: transaction markers travel that way.
    'sasl.mechanism.inter.broker.protocol': 'SCRAM-SHA-512',
    'listener.name.client.scram-sha-512.sasl.jaas.config': `org.apache.kafka.common.security.scram.ScramLoginModule required username="${USER}" password="${secrets.password}";`,
    'ssl.keystore.type': 'PEM', 'ssl.keystore.location': keystore,
    'ssl.truststore.type': 'PEM', 'ssl.truststore.location': truststore,
  };
}

function environment(brokers: string, secrets: Secrets | undefined): Record<string, string> {
  return {
    KAFKA_BROKERS: brokers,
    KAFKA_SSL: String(secrets !== undefined), KAFKA_SSL_CA: secrets?.caFile ?? '',
    KAFKA_SASL_MECHANISM: secrets === undefined ? '' : 'scram-sha-512',
    KAFKA_SASL_USERNAME: secrets === undefined ? '' : USER, KAFKA_SASL_PASSWORD: secrets?.password ?? '',
  };
}

const LOGGING = `status = warn
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c{1})%n
`;

function javaArgs(libs: string, home: string): readonly string[] {
  return [`-Dlog4j2.configurationFile=${join(home, 'log4j2.properties')}`, '-cp', `${libs}/*`];
}

function writeProperties(file: string, settings: Readonly<Record<string, string>>): void {
  // A backslash would begin an escape in a Java properties file.
  writeFileSync(file, Object.entries(settings).map(([name, value]) => `${name}=${value.replaceAll('\\', '\\\\')}\n`).join(''), { mode: 0o600 });
}

export function newClusterId(): string {
  return randomBytes(16).toString('base64url').replace(/^-/, 'A');
}

async function format(java: string, libs: string, home: string, data: string, id: string, secrets: Secrets | undefined): Promise<void> {
  mkdirSync(data, { recursive: true });
  const scram = secrets === undefined ? [] : ['--add-scram', `SCRAM-SHA-512=[name=${USER},password=${secrets.password}]`];
  const result = await run(java, ['-Xmx128m', ...javaArgs(libs, home), 'kafka.tools.StorageTool', 'format', '-t', id, '-c', join(home, 'server.properties'), ...scram]);
  if (result.status !== 0) throw new LocalFault(`Kafka could not format ${data}: ${`${result.stderr}\n${result.stdout}`.trim().split('\n')[0]}`);
}

async function answers(broker: string, secrets: Secrets | undefined): Promise<boolean> {
  const login = secrets === undefined ? {} : { ssl: { ca: secrets.ca }, sasl: { mechanism: 'scram-sha-512', username: USER, password: secrets.password } as const };
  const kafka = new kafkajs.Kafka({ brokers: [broker], ...login, connectionTimeout: 2_000, requestTimeout: 5_000, retry: { retries: 0 }, logLevel: kafkajs.logLevel.NOTHING });
  const admin = kafka.admin();
  try {
    await admin.connect();
    return (await admin.describeCluster()).brokers.length > 0;
  } finally {
    await admin.disconnect();
  }
}
