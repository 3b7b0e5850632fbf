import type { Client } from '@elastic/elasticsearch';
import { crashPoint } from '../../core/crash-point.ts';
import { esError, failureOf } from './elastic-errors.ts';

/** What an index costs while it is filled. */
export interface IndexPace {
  /** `30s`, `-1` (never). */
  readonly refreshInterval: string;
  readonly replicas: number;
}

/** The alias that every relaxed index bears, from the request that makes it to the one after its settings are put back. */
export function relaxedAlias(prefix: string): string {
  return `${prefix}-cdc-relaxed`;
}

/** The more patient of both in each respect: relaxing never makes an index cost more than it is configured to. */
export function relaxedPace(configured: IndexPace, wanted: IndexPace): IndexPace {
  return {
    refreshInterval: milliseconds(wanted.refreshInterval) > milliseconds(configured.refreshInterval) ? wanted.refreshInterval : configured.refreshInterval,
    replicas: Math.min(wanted.replicas, configured.replicas),
  };
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

function milliseconds(interval: string): number {
  const match = /^(\d+)(ms|s|m|h)$/.exec(interval);
  return match ? Number(match[1]) * UNITS[match[2]!]! : Infinity;
}

/** Indices in one request of settings: each request is one change of the cluster's state, however many it names. */
const AT_ONCE = 20;

/**
 * Indices that a backfill fills, made without the replicas and refreshes that only reading needs.
 *
 * Templates stay as they are, so whatever else makes an index makes a right one. Which indices are relaxed is written on
 * them, by an alias in the very request that makes them: there is no moment at which a relaxed index is not known, and
 * no list that could be lost or differ from what is there.
 */
export class RelaxedIndices {
  private readonly client: Client;
  private readonly alias: string;
  private readonly configured: IndexPace;
  private readonly relaxed: IndexPace;

  constructor(client: Client, prefix: string, configured: IndexPace, wanted: IndexPace) {
    this.client = client;
    this.alias = relaxedAlias(prefix);
    this.configured = configured;
    this.relaxed = relaxedPace(configured, wanted);
  }

  /** False where the configuration leaves nothing to relax. */
  get worthwhile(): boolean {
    return this.relaxed.replicas !== this.configured.replicas || this.relaxed.refreshInterval !== this.configured.refreshInterval;
  }

  /**
   * Makes the index relaxed if it is not there; true when it did. One for which somebody has a template of another pace
   * (a tenant that was prepared for its switch) is left to that. Throws what the client throws.
   */
  async make(name: string): Promise<boolean> {
    const path = `/${encodeURIComponent(name)}`;
    if (await this.client.transport.request<boolean>({ method: 'HEAD', path }, { maxRetries: 0 })) return false;
    const due = await this.paceOf(name);
    if (due.refreshInterval !== this.configured.refreshInterval || due.replicas !== this.configured.replicas) return false;
    const settings = { 'index.refresh_interval': this.relaxed.refreshInterval, 'index.number_of_replicas': String(this.relaxed.replicas) };
    try {
      await this.client.transport.request({ method: 'PUT', path, body: { settings, aliases: { [this.alias]: { is_hidden: true } } } }, { maxRetries: 0 });
    } catch (error) {
      // Another sink was quicker.
      if (failureOf(error).type === 'resource_already_exists_exception') return false;
      throw error;
    }
    crashPoint('sink.relaxed-index-made');
    return true;
  }

  /** Names of those that are relaxed now. Throws a DifyEsError. */
  async list(): Promise<string[]> {
    return listRelaxed(this.client, this.alias);
  }

  /**
   * Gives every relaxed index the pace that a new one of its name would have now, makes what was written findable, and
   * takes the alias away last. Killed in between it is done again. Returns the names. Throws a DifyEsError.
   */
  async putBack(): Promise<string[]> {
    const names = await this.list();
    const paces = new Map<string, { pace: IndexPace; names: string[] }>();
    for (const name of names) {
      const pace = await this.paceOf(name).catch(rethrown);
      const key = `${pace.refreshInterval} ${pace.replicas}`;
      paces.set(key, { pace, names: [...(paces.get(key)?.names ?? []), name] });
    }
    for (const { pace, names: alike } of paces.values()) {
      for (let at = 0; at < alike.length; at += AT_ONCE) await this.putBackSome(alike.slice(at, at + AT_ONCE), pace);
    }
    return names;
  }

  private async putBackSome(names: readonly string[], { refreshInterval, replicas }: IndexPace): Promise<void> {
    const path = `/${names.map(encodeURIComponent).join(',')}`;
    // One that was dropped meanwhile needs nothing.
    const querystring = { ignore_unavailable: 'true' };
    try {
      await this.client.transport.request({ method: 'PUT', path: `${path}/_settings`, querystring, body: { 'index.refresh_interval': refreshInterval, 'index.number_of_replicas': String(replicas) } });
      await this.client.transport.request({ method: 'POST', path: `${path}/_refresh`, querystring });
      crashPoint('sink.relaxed-put-back');
      // All or nothing: where one was dropped meanwhile, one by one.
      if (!(await this.unmark(names))) for (const name of names) await this.unmark([name]);
    } catch (error) {
      throw esError(error);
    }
  }

  /** False when one of them is not there. */
  private async unmark(names: readonly string[]): Promise<boolean> {
    const actions = names.map((index) => ({ remove: { index, alias: this.alias, must_exist: false } }));
    const answer = await this.client.transport.request<object>({ method: 'POST', path: '/_aliases', body: { actions } }, { ignore: [404] });
    return !('error' in answer);
  }

  /** What the server itself says an index of that name would get; as configured where there is no template. */
  private async paceOf(name: string): Promise<IndexPace> {
    interface Answer { template?: { settings?: { index?: { refresh_interval?: string; number_of_replicas?: string } } } }
    const { template } = await this.client.transport.request<Answer>({ method: 'POST', path: `/_index_template/_simulate_index/${encodeURIComponent(name)}` }, { maxRetries: 0 });
    const { refresh_interval: refreshInterval = this.configured.refreshInterval, number_of_replicas: replicas = this.configured.replicas } = template?.settings?.index ?? {};
    return { refreshInterval, replicas: Number(replicas) };
  }
}

/** Names of the relaxed indices of an installation, sorted. Throws a DifyEsError. */
export async function listRelaxed(client: Client, alias: string): Promise<string[]> {
  try {
    const answer = await client.transport.request<Record<string, { aliases?: unknown }>>({ method: 'GET', path: `/_alias/${alias}` }, { ignore: [404] });
    return Object.entries(answer).flatMap(([name, { aliases }]) => (aliases === undefined ? [] : [name])).sort();
  } catch (error) {
    throw esError(error);
  }
}

function rethrown(error: unknown): never {
  throw esError(error);
}
