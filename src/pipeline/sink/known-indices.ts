import type { Client } from '@elastic/elasticsearch';
import type { Patience } from './patience.ts';

/** How long an index counts as there: it can be dropped by retention, or by hand. */
const TRUST_MS = 30_000;

/**
 * A delete must not create an index, but with an external version it does, where an index of that name is missing
 * [measured on 8.19.21 and 9.5.3]. So deletes are sent only to indices that are there; without its index there is
 * nothing to delete, unless a bulk that makes it is still under way (see `withoutVoidDeletes` in sink.ts).
 *
 * Only presence is remembered. Absence is asked anew for each batch: the partition may have been another sink's until a
 * moment ago, and that one may have made the index, with the very document that is to go.
 */
export class KnownIndices {
  private readonly client: Client;
  private readonly now: () => number;
  private readonly seen = new Map<string, number>();

  constructor(client: Client, now: () => number = Date.now) {
    this.client = client;
    this.now = now;
  }

  /** Those of `names` that are not there. */
  async missing(names: Iterable<string>, patience: Patience): Promise<ReadonlySet<string>> {
    const missing = new Set<string>();
    for (const name of new Set(names)) {
      const seen = this.seen.get(name);
      if (seen !== undefined && this.now() - seen < TRUST_MS) continue;
      // HEAD by name, one by one: it also finds an alias of that name, which a listing gives under another one.
      const there = await patience.insist((signal) => this.client.transport.request<boolean>({ method: 'HEAD', path: `/${encodeURIComponent(name)}` }, { maxRetries: 0, signal }));
      if (there) this.sighted(name);
      else missing.add(name);
    }
    return missing;
  }

  /** True when this process has ever written into it or found it. */
  has(name: string): boolean {
    return this.seen.has(name);
  }

  /** The server has just written into it. */
  sighted(name: string): void {
    this.seen.set(name, this.now());
    if (this.seen.size > 10_000) this.seen.clear();
  }
}
