import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import type { TableName } from '../../core/contracts.ts';
import { DifyEsError } from '../../core/errors.ts';
import type { RowKey } from '../../core/row-key.ts';
import { connect } from '../../pipeline/capture/pg-connection.ts';
import { encodeKey } from '../../pipeline/encode/key-codec.ts';
import { createSchemaBook } from '../../pipeline/encode/schema-book.ts';
import { openDeadLetters } from '../../pipeline/kafka/dead-letters.ts';
import { OVERHEAD } from '../../pipeline/kafka/publisher.ts';
import { recordLimit } from '../../pipeline/kafka/topics.ts';
import { Interrupted } from '../../pipeline/sink/patience.ts';
import { DEFAULT_SEARCH_TEXT_BYTES } from '../../pipeline/sink/sink.ts';
import { ensureTemplates } from '../../pipeline/sink/templates.ts';
import { pgTarget } from '../../run/connections.ts';
import { openDrainer, type Drainer } from '../../run/drain.ts';
import { requireOwnSource } from '../../run/own-source.ts';
import type { Platform } from '../../run/platform.ts';
import { decoder, templateSettings } from '../../run/sink.ts';
import { templatesInUse } from '../../run/templates.ts';
import { knownBoundaries, openResend } from '../../run/validate.ts';
import { Documents } from '../validate/documents.ts';
import type { Boundaries } from '../validate/expectations.ts';
import type { Resend } from '../validate/resend.ts';
import { Source, type OpenTable } from '../validate/source.ts';
import { lastOfTheirKeys } from './last-of-key.ts';
import { LetterWriter } from './letter-writer.ts';
import { redrive, type RedriveReport, type RedriveRequest } from './redrive.ts';
import { sizeGuard } from './size-guard.ts';

/** A redrive, wired. Throws STOPPED at the signal, NOT_DRAINED where only the reader can tell what became of a row; what was recorded by then is not done again. */
export async function runRedrive(config: Config, platform: Platform, request: RedriveRequest, signal: AbortSignal, log: Logger, onProgress: (report: RedriveReport) => void): Promise<RedriveReport> {
  const { client, kafka, names, state } = platform;
  const boundaries = (): Promise<Boundaries> => knownBoundaries(config, platform);
  // refuses another DELETE_POLICY before anything is opened
  await boundaries();
  await requireOwnSource(config);
  const prefix = config.elasticsearch.indexPrefix;
  const db = await connect(pgTarget(config), { role: 'redrive', statementTimeoutMs: 60_000 });
  const source = new Source({ scanning: db, lookup: db }, config.postgres.schema);
  const letters = await openDeadLetters(kafka, names, state.control);
  const documents = new Documents(client, prefix, signal);
  const tables = new Map<TableName, OpenTable | undefined>();
  const tooLarge = new Set<string>();
  let resend: Resend | undefined;
  let drainer: Drainer | undefined;
  try {
    if (!request.dryRun) await ensureTemplates(client, await templatesInUse(client, templateSettings(config)));
    const writer = new LetterWriter({
      client, prefix, signal,
      row: decoder(createSchemaBook(state.control)).row,
      searchTextBytes: config.elasticsearch.searchText ? DEFAULT_SEARCH_TEXT_BYTES : 0,
      maxBulkBytes: config.elasticsearch.bulkBytes,
      onTrouble: (trouble) => log.warn({ ...trouble }, 'waiting for Elasticsearch'),
      onRecovered: () => log.info('Elasticsearch takes documents again'),
    });
    return await redrive(request, {
      letters, boundaries, signal, onProgress,
      drained: async () => {
        drainer ??= await openDrainer(config, platform, log, signal);
        await drainer.drain();
      },
      places: async (table, ids) => {
        if (!tables.has(table)) tables.set(table, await source.open(table));
        const open = tables.get(table);
        return open && ids.length > 0 ? await source.placesOf(open, ids) : new Map<string, RowKey>();
      },
      lastOfTheirKeys: (some) => lastOfTheirKeys(kafka, names, encodeKey, some),
      write: (some) => writer.write(some),
      versions: async (addresses) => (await documents.mget(addresses)).map((found) => found?.version ?? null),
      resend: async (table, ids) => {
        const limit = (await recordLimit(kafka, names)) - OVERHEAD;
        resend ??= await openResend(config, platform, signal, log, 'redrive', (publisher) => sizeGuard(publisher, limit, (found, id) => tooLarge.add(`${found}/${id}`)));
        tooLarge.clear();
        await resend.publishRows(table, ids);
        return new Set(ids.filter((id) => tooLarge.has(`${table}/${id}`)));
      },
    });
  } catch (error) {
    if (signal.aborted || error instanceof Interrupted) throw new DifyEsError('STOPPED', 'stopped before every letter was sent again');
    throw error;
  } finally {
    await Promise.allSettled([letters.close(), db.end(), resend?.close(), drainer?.close()]);
  }
}
