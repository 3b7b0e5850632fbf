import type pg from 'pg';

interface Held {
  readonly client: pg.Client;
  readonly releaseAt: number;
  readonly timer: NodeJS.Timeout;
}

/** Transactions that stay open while others come and go, so that a backfill's barrier has something to wait for. */
export class HeldTransactions {
  private readonly connect: () => Promise<pg.Client>;
  private readonly limits: { readonly operations: number; readonly ms: number };
  private readonly open = new Set<Held>();
  private readonly ending = new Set<Promise<void>>();
  private operations = 0;

  constructor(connect: () => Promise<pg.Client>, limits: { readonly operations: number; readonly ms: number }) {
    this.connect = connect;
    this.limits = limits;
  }

  /** Begins a transaction, lets `work` write in it and leaves it open. Rolled back when the work fails. */
  async hold(work: (client: pg.ClientBase) => Promise<number>): Promise<number> {
    const client = await this.connect();
    client.on('error', () => {});
    try {
      await client.query('BEGIN');
      const rows = await work(client);
      // The time limit is for rows that other lanes wait for: they would never come to the operations that release it.
      const held: Held = { client, releaseAt: this.operations + this.limits.operations, timer: setTimeout(() => this.release(held), this.limits.ms) };
      this.open.add(held);
      return rows;
    } catch (error) {
      await client.end().catch(() => {});
      throw error;
    }
  }

  /** Commits what has been open for long enough. */
  async operationDone(): Promise<void> {
    this.operations++;
    for (const held of this.open) if (held.releaseAt <= this.operations) this.release(held);
  }

  /** Commits all and waits for it. */
  async releaseAll(): Promise<void> {
    for (const held of this.open) this.release(held);
    await Promise.all(this.ending);
  }

  private release(held: Held): void {
    if (!this.open.delete(held)) return;
    clearTimeout(held.timer);
    // A lost connection has rolled it back, which is as good an end.
    const ended = held.client.query('COMMIT').catch(() => {}).then(() => held.client.end()).catch(() => {}).finally(() => this.ending.delete(ended));
    this.ending.add(ended);
  }
}
