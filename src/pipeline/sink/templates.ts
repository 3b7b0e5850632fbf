import { createHash } from 'node:crypto';
import type { Client } from '@elastic/elasticsearch';
import type { Connector } from '../../connector/definition.ts';
import { indexPattern } from './index-name.ts';
import { mappingOf } from './mapping.ts';
import { esError } from './elastic-errors.ts';

export interface TemplateSettings {
  readonly prefix: string;
  readonly shards: number;
  readonly replicas: number;
  /** For example `30s`; with `1s` the readers of Dify see a document sooner. */
  readonly refreshInterval: string;
  readonly totalFieldsLimit: number;
  /** `best_compression` costs CPU and saves disk; without it the server's default. */
  readonly codec?: 'default' | 'best_compression';
  readonly searchText: boolean;
  /** Above any template of Dify (which has none, hence 0) and below nothing that we know. */
  readonly priority?: number;
}

export interface IndexTemplate {
  readonly name: string;
  readonly body: TemplateBody;
}

interface TemplateBody {
  readonly index_patterns: readonly string[];
  readonly priority: number;
  readonly _meta: { readonly managed_by: string; readonly fingerprint: string };
  readonly template: { readonly settings: Readonly<Record<string, string>>; readonly mappings: object };
}

/** `absent`: not there. `different`: somebody, or another version or configuration of this program, wrote it. */
export type TemplateState = 'current' | 'different' | 'absent';

function templateName(prefix: string, connector: Connector): string {
  return `${prefix}-cdc-${connector.index}-template`;
}

/** The template of one connector: its own name and priority, since Dify re-puts its templates of like pattern at each start. */
export function templateOf(connector: Connector, settings: TemplateSettings): IndexTemplate {
  const content = {
    index_patterns: [indexPattern(settings.prefix, connector)],
    priority: settings.priority ?? 500,
    template: {
      settings: {
        'index.number_of_shards': String(settings.shards),
        'index.number_of_replicas': String(settings.replicas),
        'index.refresh_interval': settings.refreshInterval,
        'index.mapping.total_fields.limit': String(settings.totalFieldsLimit),
        // How long a deleted document's version is remembered: an older record that comes later must find it.
        'index.gc_deletes': '1h',
        ...(settings.codec && settings.codec !== 'default' ? { 'index.codec': settings.codec } : {}),
      },
      mappings: mappingOf(connector, settings),
    },
  };
  const fingerprint = createHash('sha256').update(stable(content)).digest('hex').slice(0, 16);
  return { name: templateName(settings.prefix, connector), body: { ...content, _meta: { managed_by: 'dify-es', fingerprint } } };
}

/** What the server has under each name. Reads only. */
export async function templateStates(client: Client, templates: readonly IndexTemplate[]): Promise<ReadonlyMap<string, TemplateState>> {
  const states = new Map<string, TemplateState>();
  for (const template of templates) states.set(template.name, await stateOf(client, template));
  return states;
}

/**
 * Puts the templates that are absent or different; returns their names. To be called by every sink at start, since the
 * guide tells people to delete `dify-*-template`: an index made without its template has a dynamic mapping for ever.
 */
export async function ensureTemplates(client: Client, templates: readonly IndexTemplate[]): Promise<string[]> {
  const states = await templateStates(client, templates);
  const stale = templates.filter((template) => states.get(template.name) !== 'current');
  for (const template of stale) await call(() => client.transport.request({ method: 'PUT', path: pathOf(template), body: template.body }));
  return stale.map((template) => template.name);
}

/** Removes them; an absent one is no error. Indices keep the mapping they were made with. */
export async function removeTemplates(client: Client, templates: readonly IndexTemplate[]): Promise<void> {
  for (const template of templates) await call(() => client.transport.request({ method: 'DELETE', path: pathOf(template) }, { ignore: [404] }));
}

async function stateOf(client: Client, template: IndexTemplate): Promise<TemplateState> {
  interface Answer { index_templates?: { index_template: TemplateBody }[] }
  const path = pathOf(template);
  const answer = await call(() => client.transport.request<Answer>({ method: 'GET', path, querystring: { flat_settings: true } }, { ignore: [404] }));
  const found = answer.index_templates?.[0]?.index_template;
  if (!found) return 'absent';
  const { index_patterns, priority, _meta, template: inner } = found;
  const same = stable({ index_patterns, priority, _meta, template: { settings: inner.settings, mappings: inner.mappings } }) === stable(template.body);
  return same ? 'current' : 'different';
}

function pathOf(template: IndexTemplate): string {
  return `/_index_template/${encodeURIComponent(template.name)}`;
}

async function call<T>(request: () => Promise<T>): Promise<T> {
  try {
    return await request();
  } catch (error) {
    throw esError(error);
  }
}

/** JSON with sorted keys and every scalar as text: the server gives a number back as text and keys in its own order. */
function stable(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(stable).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(String(value));
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, inner]) => `${JSON.stringify(key)}:${stable(inner)}`).join(',')}}`;
}
