import { searchRuns, type FoundRun } from '../ops/search/search.ts';
import type { SearchRequest } from '../ops/search/query.ts';
import { DifyEsError } from '../core/errors.ts';
import { checkConnection } from '../pipeline/sink/elastic-client.ts';
import { elasticSettings, openElastic } from '../run/connections.ts';
import { startOfDay, startOfNextDay, tenantIds, text, wholeNumber } from './flags.ts';
import { defineVerb } from './verb.ts';

const DEFAULT_LIMIT = 20;

export const search = defineVerb<SearchRequest>({
  name: 'search',
  summary: 'finds runs by words of their inputs, outputs and errors, or of those of their nodes; prints ids, never contents',
  writes: false,
  declare: (command) =>
    command
      .argument('<words...>', 'all of them; several words in quotes are a phrase')
      .option('--tenant-id <uuid...>', 'only these tenants, comma separated')
      .option('--status <status>', 'only runs with this status, for example failed')
      .option('--from <YYYY-MM-DD>', 'only runs created on this day (UTC) or later')
      .option('--to <YYYY-MM-DD>', 'only runs created on this day (UTC) or earlier')
      .option('--limit <n>', `at most so many runs (default ${DEFAULT_LIMIT})`),
  read(flags, faults) {
    const [given] = flags['args'] as [readonly string[] | undefined];
    const words = (given ?? []).map((word) => word.trim()).filter((word) => word !== '');
    if (words.length === 0) faults.push('no words to search for');
    const from = startOfDay(flags, faults, 'from', '--from');
    const before = startOfNextDay(flags, faults, 'to', '--to');
    if (from !== null && before !== null && from >= before) faults.push('--to is before --from');
    return {
      words, from, before,
      tenantIds: tenantIds(flags, faults),
      status: text(flags, faults, 'status', '--status'),
      limit: wholeNumber(flags, faults, 'limit', '--limit', 1, 1000) ?? DEFAULT_LIMIT,
    };
  },
  async run({ config, out, log }, request) {
    if (!config.elasticsearch.searchText) log.warn('ELASTICSEARCH_SEARCH_TEXT is false: documents that are written so cannot be found by their words');
    const client = openElastic(config);
    try {
      const found = await searchRuns(client, config.elasticsearch.indexPrefix, request).catch(async (error: unknown) => {
        // the client says of a certificate only that there is no connection; who connects properly is told why
        if (error instanceof DifyEsError && error.code === 'ES_UNREACHABLE') await checkConnection(client, elasticSettings(config));
        throw error;
      });
      if (found.runs.length === 0) out.line(`nothing in ${found.indices} indices`);
      else out.table(['run', 'created (UTC)', 'status', 'tenant', 'app', 'found in'], found.runs.map(lineOf));
      if (!found.complete) out.line('there are more: name a tenant, a status or dates, or raise --limit');
      out.result(found);
      return found.runs.length > 0 ? 0 : 1;
    } finally {
      await client.close();
    }
  },
});

function lineOf(run: FoundRun): string[] {
  const places = [...(run.inRun ? ['run'] : []), ...(run.nodes.length > 0 ? [`${run.nodes.length} ${run.nodes.length === 1 ? 'node' : 'nodes'}`] : [])];
  return [run.runId, run.createdAt ?? '-', run.status ?? '-', run.tenantId, run.appId ?? '-', places.join(', ')].map(printable);
}

/** A document is other people's input: an escape sequence in it must not reach the terminal. */
function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '\u{FFFD}');
}
