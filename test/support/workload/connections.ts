import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';

/** What an error of the server means for a random workload. */
export type Mishap = 'conflict' | 'lost' | 'fault';

/**
 * Writers that meet on one row are refused now and then: that is part of the workload. A lost connection is part of it
 * only where the caller kills servers. SQLSTATEs: PostgreSQL documentation, appendix A.
 */
export function classify(error: unknown): Mishap {
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code === 'string') {
    // unique_violation, deadlock_detected, serialization_failure, lock_not_available
    if (['23505', '40P01', '40001', '55P03'].includes(code)) return 'conflict';
    // admin_shutdown, crash_shutdown, cannot_connect_now, connection exceptions, and the sockets' own
    if (/^(57P0[1-3]|08...|E[A-Z]+)$/.test(code)) return 'lost';
    return 'fault';
  }
  // pg ends the queries of a closed connection with an Error that has no code.
  return error instanceof Error && error.constructor === Error ? 'lost' : 'fault';
}

/** One connection that is opened when it is needed and opened again after it was lost. */
export class Connection {
  private readonly connect: () => Promise<pg.Client>;
  private readonly patienceMs: number;
  private current: pg.Client | undefined;

  /** `patienceMs`: how long to try again to connect; 0: once. */
  constructor(connect: () => Promise<pg.Client>, patienceMs: number) {
    this.connect = connect;
    this.patienceMs = patienceMs;
  }

  async client(): Promise<pg.Client> {
    const deadline = performance.now() + this.patienceMs;
    while (!this.current) {
      try {
        const client = await this.connect();
        client.on('error', () => this.forget(client));
        client.on('end', () => this.forget(client));
        this.current = client;
      } catch (error) {
        if (classify(error) !== 'lost' || performance.now() > deadline) throw error;
        await sleep(100);
      }
    }
    return this.current;
  }

  /** After a lost connection: the next `client()` opens a new one. */
  async close(): Promise<void> {
    const client = this.current;
    this.current = undefined;
    await client?.end().catch(() => {});
  }

  private forget(client: pg.Client): void {
    if (this.current === client) this.current = undefined;
  }
}
