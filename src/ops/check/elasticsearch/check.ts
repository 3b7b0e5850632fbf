import type { Config } from '../../../config/config.ts';
import { CONNECTORS } from '../../../connector/registry.ts';
import { DifyEsError } from '../../../core/errors.ts';
import { checkConnection } from '../../../pipeline/sink/elastic-client.ts';
import { indexName } from '../../../pipeline/sink/index-name.ts';
import { templateOf, templateStates } from '../../../pipeline/sink/templates.ts';
import { elasticSettings, openElastic } from '../../../run/connections.ts';
import { templateSettings } from '../../../run/sink.ts';
import { templatesInUse } from '../../../run/templates.ts';
import { fail, type Finding } from '../finding.ts';
import { diskFindings, healthFinding, shardFinding, sizeFindings, versionFinding } from './cluster.ts';
import { ask, readBlocks, readMissingRights, readNodes, readTemplates, setting, type ClusterSettings, type Health } from './facts.ts';
import { autoCreateFinding, blockFinding, rightsFinding, rivalFindings, templateFindings, type OurTemplate } from './indices.ts';

const SOME_TENANT = '00000000-0000-4000-8000-000000000000';
const SETTINGS = '*.cluster.max_shards_per_node,*.cluster.blocks,*.cluster.routing.allocation.disk,*.action.auto_create_index';

/** Reads only. Throws when no node can be reached or the credentials are refused. `neededShards`: see shardFinding. */
export async function checkElasticsearch(config: Config, neededShards: Promise<number | null>): Promise<Finding[]> {
  const client = openElastic(config);
  const { indexPrefix: prefix, replicas } = config.elasticsearch;
  try {
    const { version } = await checkConnection(client, elasticSettings(config));
    const health = await ask<Health>(client, '/_cluster/health');
    const settings = await ask<ClusterSettings>(client, '/_cluster/settings', { include_defaults: 'true', filter_path: SETTINGS });
    const nodes = await readNodes(client);
    const templates = Object.values(CONNECTORS).map((connector) => ({ connector, template: templateOf(connector, templateSettings(config)) }));
    const ours = templates.map(({ connector, template }): OurTemplate => ({ name: template.name, priority: template.body.priority, sampleIndex: indexName(prefix, connector, SOME_TENANT, '2025.01') }));
    return [
      versionFinding(version),
      healthFinding(health, replicas),
      shardFinding(health, settings, await neededShards),
      ...diskFindings(nodes, settings),
      ...sizeFindings(nodes),
      autoCreateFinding(setting(settings, 'action.auto_create_index'), ours),
      ...(await whereAllowed('templates', async () => templateFindings(await templateStates(client, await templatesInUse(client, templateSettings(config)))))),
      ...(await whereAllowed('other templates', async () => rivalFindings(ours, await readTemplates(client)))),
      ...(await whereAllowed('blocks', async () => [blockFinding(await readBlocks(client, prefix), settings)])),
      ...(await whereAllowed('rights', async () => [rightsFinding(await readMissingRights(client, prefix))])),
    ];
  } finally {
    await client.close();
  }
}

/** A role that may not see one thing is told of it, and the rest is looked at all the same. */
async function whereAllowed(subject: string, look: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await look();
  } catch (error) {
    if (!(error instanceof DifyEsError) || error.code !== 'ES_RIGHTS') throw error;
    return [fail(subject, error.message, error.cure)];
  }
}
