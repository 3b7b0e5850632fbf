import { existsSync, readFileSync } from 'node:fs';
import { DifyEsError } from '../core/errors.ts';
import { parseDatabaseUrl } from './database-url.ts';
import { OPTIONS, allOptions, type Option } from './options.ts';

type Values<G> = { readonly [K in keyof G]: G[K] extends Option<infer T> ? T : never };
type RawConfig = { readonly [G in keyof typeof OPTIONS]: Values<(typeof OPTIONS)[G]> };

/** After start-up only this exists: everything checked, defaults filled in, files read. */
export interface Config {
  readonly elasticsearch: RawConfig['elasticsearch'] & { readonly nodes: readonly string[]; readonly ca: string | null };
  readonly postgres: RawConfig['postgres'] & { readonly ca: string | null };
  readonly kafka: RawConfig['kafka'] & { readonly ca: string | null };
  readonly program: RawConfig['program'];
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads `.env` of the working directory below the real environment: what the shell set counts.
 *
 * `path` that does not exist is no error. The values are taken as they are between the quotes, without expansion.
 */
export function readEnvironment(env: Environment, path = '.env'): Environment {
  return existsSync(path) ? { ...parseEnvFile(readFileSync(path, 'utf8')), ...env } : env;
}

/** Lines `NAME=value`, also with `export ` before; quotes around the whole value are taken off. */
export function parseEnvFile(text: string): Record<string, string> {
  const values: Record<string, string> = {};
  for (const line of text.split(/\r?\n/)) {
    const match = /^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*$/.exec(line);
    if (!match) continue;
    const quoted = /^(["'])(.*)\1(?:\s+#.*)?$/.exec(match[2]!);
    values[match[1]!] = quoted ? quoted[2]! : match[2]!.replace(/\s+#.*$/, '');
  }
  return values;
}

/**
 * The whole configuration, or CONFIG_INVALID with every fault of it, one a line. Values of secrets are never named.
 */
export function loadConfig(env: Environment): Config {
  const faults: string[] = [];
  const raw: Record<string, Record<string, unknown>> = {};
  for (const { group, name, option } of allOptions()) (raw[group] ??= {})[name] = readOption(option, env, faults);

  const values = raw as unknown as RawConfig;
  const file = (name: string, path: string): string | null => (path ? readPem(name, path, faults) : null);
  const config: Config = {
    elasticsearch: { ...values.elasticsearch, nodes: nodeUrls(values.elasticsearch.hosts, values.elasticsearch.useSsl), ca: file(OPTIONS.elasticsearch.caCerts.env, values.elasticsearch.caCerts) },
    postgres: { ...withUrl(values.postgres, faults), ca: file(OPTIONS.postgres.sslCa.env, values.postgres.sslCa) },
    kafka: { ...values.kafka, ca: file(OPTIONS.kafka.sslCa.env, values.kafka.sslCa) },
    program: values.program,
  };
  if (values.kafka.saslMechanism !== '' && values.kafka.saslUsername === '') faults.push(`${OPTIONS.kafka.saslUsername.env} is empty, but ${OPTIONS.kafka.saslMechanism.env} is set`);
  faults.push(...consoleFaults(values.program));
  if (faults.length > 0) throw new DifyEsError('CONFIG_INVALID', faults.join('\n'));
  return config;
}

function readOption(option: Option<unknown>, env: Environment, faults: string[]): unknown {
  const path = option.secret ? env[`${option.env}_FILE`] : undefined;
  const given = env[option.env];
  if (path && given) faults.push(`${option.env} and ${option.env}_FILE are both set`);
  const text = path ? (readText(`${option.env}_FILE`, path, faults)?.trimEnd() ?? '') : given === undefined || given === '' ? option.fallback : given;
  const result = option.type.safeParse(text);
  if (result.success) return result.data;
  // an @ may stand behind a password that was written where none belongs
  const shown = option.secret || text.includes('@') ? '' : ` = ${JSON.stringify(text)}`;
  for (const issue of result.error?.issues ?? []) faults.push(`${option.env}${shown} ${issue.message}`);
  return option.type.safeParse(option.fallback).data;
}

function readText(name: string, path: string, faults: string[]): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    faults.push(`${name} names a file that cannot be read: ${path}`);
    return null;
  }
}

/** A CA that is none would be trusted by nobody, or end in an error of OpenSSL's that names no variable. */
function readPem(name: string, path: string, faults: string[]): string | null {
  const text = readText(name, path, faults);
  if (text !== null && !text.includes('-----BEGIN CERTIFICATE-----')) faults.push(`${name} names a file without a PEM certificate: ${path}`);
  return text;
}

/** Hosts as Dify's guide has them (`http://…` with USE_SSL beside it, or without a scheme) to the URLs the client wants. */
function nodeUrls(hosts: readonly string[], useSsl: boolean): string[] {
  return hosts.map((host) => {
    if (!host.includes('://')) return `${useSsl ? 'https' : 'http'}://${host}`;
    return useSsl ? host.replace(/^http:/, 'https:') : host;
  });
}

const TOKEN_LENGTH = 16;

/** The console shows the rows of runs, so nobody beyond this machine may open it without a token. */
function consoleFaults({ consoleHost, consoleToken }: RawConfig['program']): string[] {
  const { env } = OPTIONS.program.consoleToken;
  if (consoleToken !== '' && consoleToken.length < TOKEN_LENGTH) return [`${env} is shorter than ${TOKEN_LENGTH} characters`];
  if (consoleToken !== '' || isLoopback(consoleHost)) return [];
  return [`${OPTIONS.program.consoleHost.env} = ${JSON.stringify(consoleHost)} can be reached from other machines, so a token is needed: set ${env} or ${env}_FILE (openssl rand -hex 16), or leave the address at 127.0.0.1`];
}

/** An address that only this machine reaches; a name other than localhost could mean any. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

function withUrl(postgres: RawConfig['postgres'], faults: string[]): RawConfig['postgres'] {
  if (!postgres.url) return postgres;
  const result = parseDatabaseUrl(postgres.url);
  if (typeof result !== 'string') return { ...postgres, ...result };
  faults.push(`${OPTIONS.postgres.url.env} ${result}`);
  return postgres;
}

/** Refuses with DISABLED unless ELASTICSEARCH_ENABLED is true: every verb that writes anywhere asks this first. */
export function requireEnabled(config: Config): void {
  if (!config.elasticsearch.enabled) throw new DifyEsError('DISABLED', `${OPTIONS.elasticsearch.enabled.env} is false: nothing is written`);
}
