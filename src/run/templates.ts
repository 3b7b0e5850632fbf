import type { Client } from '@elastic/elasticsearch';
import type { Connector } from '../connector/definition.ts';
import { CONNECTORS } from '../connector/registry.ts';
import { isUuid } from '../core/row-key.ts';
import { esError } from '../pipeline/sink/elastic-errors.ts';
import { tenantPattern } from '../pipeline/sink/index-name.ts';
import { templateOf, type IndexTemplate, type TemplateSettings } from '../pipeline/sink/templates.ts';

const CONNECTOR_LIST = Object.values(CONNECTORS);
/** Of a tenant that is prepared for its switch: docs/decisions/0009-refresh-of-switched-tenants.md. */
export const QUICK_REFRESH = '1s';

/** As the common ones, for this tenant alone and with a priority above them: two that meet must not have the same. */
export function tenantTemplates(tenantId: string, settings: TemplateSettings): IndexTemplate[] {
  return CONNECTOR_LIST.map((connector) => tenantTemplate(connector, tenantId, settings));
}

function tenantTemplate(connector: Connector, tenantId: string, settings: TemplateSettings): IndexTemplate {
  const common = templateOf(connector, { ...settings, refreshInterval: QUICK_REFRESH, priority: (settings.priority ?? 500) + 10 });
  return { name: common.name.replace(/-template$/, `-${tenantId}-template`), body: { ...common.body, index_patterns: [tenantPattern(settings.prefix, connector, tenantId)] } };
}

/**
 * All that this installation keeps current and takes away with it: the common templates, and those of tenants that were
 * prepared for a switch. The latter win over the common ones, so left as they were they would give the next month of
 * such a tenant the mapping of an older version.
 */
export async function templatesInUse(client: Client, settings: TemplateSettings): Promise<IndexTemplate[]> {
  const templates: IndexTemplate[] = [];
  for (const connector of CONNECTOR_LIST) {
    const common = templateOf(connector, settings);
    const tenants = await preparedTenants(client, common.name.replace(/template$/, ''));
    templates.push(common, ...tenants.map((tenantId) => tenantTemplate(connector, tenantId, settings)));
  }
  return templates;
}

/** By the exact form of their names: `head*-template` matches templates of other prefixes and of people too. */
async function preparedTenants(client: Client, head: string): Promise<string[]> {
  interface Answer { index_templates?: { name: string }[] }
  try {
    const { index_templates: found = [] } = await client.transport.request<Answer>({ method: 'GET', path: `/_index_template/${head}*-template` }, { ignore: [404] });
    return found.map(({ name }) => name.slice(head.length, -'-template'.length)).filter(isUuid).sort();
  } catch (error) {
    throw esError(error);
  }
}
