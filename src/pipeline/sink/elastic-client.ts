import { connect } from 'node:tls';
import { Client } from '@elastic/elasticsearch';
import { DifyEsError } from '../../core/errors.ts';
import { isTlsFault } from '../../core/tls-fault.ts';
import { esError } from './elastic-errors.ts';

export interface ElasticSettings {
  /** Whole URLs. */
  readonly nodes: readonly string[];
  readonly auth: { readonly apiKey: string } | { readonly username: string; readonly password: string } | null;
  /** The CA's PEM text; without it the CAs that Node knows. */
  readonly tls: { readonly ca: string | null; readonly rejectUnauthorized: boolean };
  readonly timeoutMs: number;
  /** For reads. A bulk is never repeated by the client: a late one could land after its successor. */
  readonly maxRetries: number;
}

export function makeClient(settings: ElasticSettings): Client {
  const { ca, rejectUnauthorized } = settings.tls;
  const https = settings.nodes.some((node) => node.startsWith('https:'));
  return new Client({
    nodes: [...settings.nodes],
    ...(settings.auth ? { auth: settings.auth } : {}),
    ...(https ? { tls: { rejectUnauthorized, ...(ca === null ? {} : { ca }) } } : {}),
    requestTimeout: settings.timeoutMs,
    maxRetries: settings.maxRetries,
    // Errors of the client carry the request; ours do not (see esError), and this is for whoever prints one after all.
    redaction: { type: 'remove' },
  });
}

export interface ServerInfo {
  readonly clusterName: string;
  /** The lowest version of any node, for example `8.19.2`. */
  readonly version: string;
  readonly nodes: number;
}

/**
 * Asks who is there; throws ES_UNREACHABLE, ES_TLS, ES_AUTH or ES_RIGHTS. Not by `GET /`, which managed and
 * stripped-down servers lack: by the nodes API, which needs the cluster privilege `monitor`.
 */
export async function checkConnection(client: Client, settings: ElasticSettings): Promise<ServerInfo> {
  interface Nodes { cluster_name: string; nodes: Record<string, { version: string }> }
  const querystring = { filter_path: 'cluster_name,nodes.*.version' };
  try {
    const answer = await client.transport.request<Nodes>({ method: 'GET', path: '/_nodes', querystring }, { maxRetries: 0 });
    const versions = Object.values(answer.nodes).map((node) => node.version);
    return { clusterName: answer.cluster_name, version: versions.reduce(lowerVersion), nodes: versions.length };
  } catch (error) {
    const fault = esError(error);
    const tls = fault.code === 'ES_UNREACHABLE' ? await tlsFault(settings) : undefined;
    throw tls === undefined ? fault : new DifyEsError('ES_TLS', `no TLS connection to Elasticsearch (${tls})`);
  }
}

export function lowerVersion(a: string, b: string): string {
  const [left, right] = [parts(a), parts(b)];
  for (let at = 0; at < 3; at++) if (left[at] !== right[at]) return (left[at] ?? 0) < (right[at] ?? 0) ? a : b;
  return a;
}

const parts = (version: string): number[] => version.split(/[.-]/).slice(0, 3).map(Number);

/**
 * The code of a TLS failure, or undefined when TLS is not what fails. A handshake of our own, since the client keeps
 * only the text of an error and drops its code.
 */
async function tlsFault(settings: ElasticSettings): Promise<string | undefined> {
  for (const node of settings.nodes) {
    const url = new URL(node);
    const code = url.protocol === 'https:' ? await handshake(url, settings) : undefined;
    if (isTlsFault(code)) return code;
  }
  return undefined;
}

function handshake(url: URL, settings: ElasticSettings): Promise<string | undefined> {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const { ca, rejectUnauthorized } = settings.tls;
  return new Promise((resolve) => {
    const end = (code: string | undefined): void => {
      socket.destroy();
      resolve(code);
    };
    const servername = /^[\d.]+$|:/.test(host) ? {} : { servername: host };
    const socket = connect({ host, port: Number(url.port || 443), rejectUnauthorized, timeout: settings.timeoutMs, ...servername, ...(ca === null ? {} : { ca }) });
    socket.once('secureConnect', () => end(undefined));
    socket.once('timeout', () => end(undefined));
    socket.once('error', (error: NodeJS.ErrnoException) => end(error.code));
  });
}
