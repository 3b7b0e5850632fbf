import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from '@elastic/elasticsearch';
import { SHORT_LIVED, controlServer, endedEarly } from './server.ts';
import type { LocalServer, ServerOptions } from './server.ts';
import { foldersOf } from './folders.ts';
import { findJava } from './java.ts';
import { addMailAnalysis } from './mail-analysis.ts';
import { cached, unpackArtifact } from './maven.ts';
import { choosePort } from './ports.ts';
import type { Secrets } from './secure.ts';
import { secretsOf } from './secure.ts';
import { readState } from './state.ts';
import { LocalFault } from './fault.ts';
import type { RunOptions } from './run.ts';
import { run } from './run.ts';
import { giveTo, serverUser } from './user.ts';

export const ELASTICSEARCH_RELEASES = { '8': { full: '8.19.21', java: 17 }, '9': { full: '9.5.3', java: 21 } } as const;
export type ElasticsearchVersion = keyof typeof ELASTICSEARCH_RELEASES;
export const ELASTICSEARCH_VERSIONS = Object.keys(ELASTICSEARCH_RELEASES) as ElasticsearchVersion[];

export interface ElasticsearchOptions extends ServerOptions {
  readonly version?: ElasticsearchVersion;
  /** Heap in MB, default 1024. */
  readonly heapMb?: number;
}

/** One node of Elasticsearch; it answers on return. */
export async function startElasticsearch(options: ElasticsearchOptions = {}): Promise<LocalServer> {
  const { version = '9', heapMb = 1024 } = options;
  const { full, java } = ELASTICSEARCH_RELEASES[version];
  const user = serverUser();
  const javaHome = findJava(`Elasticsearch ${full}`, java, user);
  const { dir, home, logFile, remove } = foldersOf('es', version, options, user);
  const port = await choosePort('Elasticsearch', '--es-port', options.port, readState(dir, 'es')?.port);
  const software = await cached(`elasticsearch-${full}-mail`, user, async (target) => {
    await fetchInto(target, full);
    await addMailAnalysis(target, { full, java }, javaHome);
  });
  const secrets = options.secure ? await secretsOf(dir) : undefined;
  const url = `${secrets === undefined ? 'http' : 'https'}://127.0.0.1:${port}`;
  const pidFile = join(home, 'es.pid');

  const plan = {
    dir, label: `Elasticsearch ${full}`, stopSignal: 'SIGTERM' as const, remove,
    state: { kind: 'es' as const, version, secure: options.secure ?? false, host: '127.0.0.1', port, url, home, logFile, env: environment(url, secrets) },
    async launch() {
      prepare(home, software, { ...nodeSettings(home, port), ...(secrets === undefined ? {} : SECURITY), ...options.settings }, [`-Xms${heapMb}m`, `-Xmx${heapMb}m`, ...(options.shortLived ? [SHORT_LIVED] : [])]);
      if (secrets !== undefined) writeCertificates(home, secrets);
      giveTo(home, user, 'itself');
      for (const name of FOLDERS) giveTo(join(home, name), user, 'itself');
      giveTo(join(home, 'config'), user);
      rmSync(pidFile, { force: true });
      // -d: the script starts the server through a Java launcher and ends with it; only the pid file tells the server's own pid.
      const env = { PATH: process.env['PATH'] ?? '/usr/bin:/bin', ES_JAVA_HOME: javaHome, ES_PATH_CONF: join(home, 'config'), ES_TMPDIR: join(home, 'tmp'), LANG: 'C.UTF-8' };
      if (secrets !== undefined) await setPassword(software, { cwd: home, env, user }, secrets);
      const result = await run(join(software, 'bin/elasticsearch'), ['-d', '-p', pidFile], { cwd: home, env, user });
      writeFileSync(logFile, `${result.stdout}${result.stderr}${result.error ?? ''}`, { flag: 'a' });
      if (result.status !== 0 || !existsSync(pidFile)) throw endedEarly(plan);
      return Number(readFileSync(pidFile, 'utf8').trim());
    },
    answers: () => answers(url, secrets),
  };
  const server = controlServer(plan, null);
  await server.start();
  return server;
}

function environment(url: string, secrets: Secrets | undefined): Record<string, string> {
  return {
    ELASTICSEARCH_ENABLED: 'true',
    ELASTICSEARCH_HOSTS: JSON.stringify([url]),
    ELASTICSEARCH_USERNAME: secrets === undefined ? '' : USER,
    ELASTICSEARCH_PASSWORD: secrets?.password ?? '',
    ELASTICSEARCH_USE_SSL: String(secrets !== undefined),
    ELASTICSEARCH_VERIFY_CERTS: 'true',
    ELASTICSEARCH_CA_CERTS: secrets?.caFile ?? '',
  };
}

/** The zip holds one folder elasticsearch-VERSION; its content becomes the target's. */
async function fetchInto(target: string, full: string): Promise<void> {
  await unpackArtifact(`org.elasticsearch.distribution.integ-test-zip:elasticsearch:${full}:zip`, target);
  const inner = join(target, `elasticsearch-${full}`);
  for (const name of readdirSync(inner)) renameSync(join(inner, name), join(target, name));
  rmdirSync(inner);
}

export function nodeSettings(home: string, port: number): Record<string, string> {
  return {
    'cluster.name': 'dify-es-local',
    'node.name': 'local',
    'path.data': join(home, 'data'),
    'path.logs': join(home, 'logs'),
    'path.repo': join(home, 'repo'),
    'network.host': '127.0.0.1',
    'http.port': String(port),
    'discovery.type': 'single-node',
    'xpack.security.enabled': 'false',
    // A developer's disk is often more than 85 % full, and the node would then refuse to allocate.
    'cluster.routing.allocation.disk.threshold_enabled': 'false',
  };
}

const FOLDERS = ['data', 'logs', 'repo', 'tmp'];

/** The node writes its keystore beside its settings, so it gets a configuration folder of its own. */
function prepare(home: string, software: string, settings: Readonly<Record<string, string>>, javaOptions: readonly string[]): void {
  const config = join(home, 'config');
  if (!existsSync(config)) cpSync(join(software, 'config'), config, { recursive: true });
  for (const name of [...FOLDERS, 'config/jvm.options.d']) mkdirSync(join(home, name), { recursive: true });
  // JSON strings are YAML strings.
  writeFileSync(join(config, 'elasticsearch.yml'), Object.entries(settings).map(([name, value]) => `${name}: ${JSON.stringify(value)}\n`).join(''));
  writeFileSync(join(config, 'jvm.options.d/local.options'), `${javaOptions.join('\n')}\n`);
}

/** The reserved superuser, whose first password comes from the keystore. */
const USER = 'elastic';

const SECURITY = {
  'xpack.security.enabled': 'true',
  'xpack.security.http.ssl.enabled': 'true',
  'xpack.security.http.ssl.certificate': 'server.pem',
  'xpack.security.http.ssl.key': 'server.key',
};

/** Into the configuration folder: the server may read no other. */
function writeCertificates(home: string, secrets: Secrets): void {
  writeFileSync(join(home, 'config/server.pem'), secrets.cert);
  writeFileSync(join(home, 'config/server.key'), secrets.key, { mode: 0o600 });
}

/** Once, before the first start: each call of the tool is a Java of its own. */
async function setPassword(software: string, options: RunOptions & { readonly cwd: string }, secrets: Secrets): Promise<void> {
  if (existsSync(join(options.cwd, 'config/elasticsearch.keystore'))) return;
  const result = await run(join(software, 'bin/elasticsearch-keystore'), ['add', '--force', '--stdin', 'bootstrap.password'], { ...options, input: secrets.password });
  if (result.status !== 0) throw new LocalFault(`elasticsearch-keystore failed: ${`${result.stderr}${result.stdout}`.trim().split('\n')[0]}`);
}

/** There is no `GET /` in this distribution. */
async function answers(url: string, secrets: Secrets | undefined): Promise<boolean> {
  const clientWith = (password: string | undefined): Client =>
    new Client({ node: url, maxRetries: 0, requestTimeout: 5_000, ...(secrets && password !== undefined ? { auth: { username: USER, password }, tls: { ca: secrets.ca } } : {}) });
  const client = clientWith(secrets?.password);
  try {
    const health = await client.cluster.health({ wait_for_status: 'yellow', timeout: '1s' });
    return !health.timed_out && (secrets === undefined || (await securityIsThere(clientWith('wrong'))));
  } finally {
    await client.close();
  }
}

/** Security is there a moment after the cluster: until then whoever has no valid password gets 503, seen on a busy machine. */
async function securityIsThere(client: Client): Promise<boolean> {
  try {
    await client.cluster.health();
    return true;
  } catch (error) {
    return (error as { statusCode?: number }).statusCode === 401;
  } finally {
    await client.close();
  }
}
