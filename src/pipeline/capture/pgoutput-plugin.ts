import pg, { type Client } from 'pg';
import { AbstractPlugin } from 'pg-logical-replication/dist/output-plugins/abstract.plugin.js';
import { parseLsn, type Lsn } from '../../core/lsn.ts';

/** IDENTIFY_SYSTEM of the very server that is about to send: another connection may have met another server. */
export interface SourceIdentity {
  readonly systemIdentifier: string;
  readonly timeline: number;
  /** The end of its flushed WAL. */
  readonly currentLsn: Lsn;
}

export interface PluginOptions<Parsed> {
  readonly publication: string;
  /** Must not throw and must not keep the buffer: the library reuses it. */
  readonly parse: (buffer: Buffer) => Parsed;
  readonly onConnected: (client: Client, identity: SourceIdentity) => void;
}

/** pgoutput for pg-logical-replication, without its parser, which turns values into JS values and loses some. */
export class PgoutputPlugin<Parsed> extends AbstractPlugin<PluginOptions<Parsed>> {
  override get name(): string {
    return 'pgoutput';
  }

  /** Resolves when the server ends the stream. From 0/0: the slot itself knows where it stands. */
  override async start(client: Client, slotName: string): Promise<unknown> {
    const { rows } = await client.query<{ systemid: string; timeline: number; xlogpos: string }>('IDENTIFY_SYSTEM');
    const { systemid, timeline, xlogpos } = rows[0]!;
    this.options.onConnected(client, { systemIdentifier: systemid, timeline, currentLsn: parseLsn(xlogpos) });
    const publication = pg.escapeIdentifier(this.options.publication).replaceAll("'", "''");
    return client.query(`START_REPLICATION SLOT ${pg.escapeIdentifier(slotName)} LOGICAL 0/0 (proto_version '1', publication_names '${publication}', messages 'true')`);
  }

  override parse(buffer: Buffer): Parsed {
    return this.options.parse(buffer);
  }
}
