import type { TemplateState } from '../../../pipeline/sink/templates.ts';
import { fail, ok, warn, type Finding } from '../finding.ts';
import { setting, type ClusterSettings, type ForeignTemplate } from './facts.ts';

/** One of our templates and the name of an index that it is made for. */
export interface OurTemplate {
  readonly name: string;
  readonly priority: number;
  readonly sampleIndex: string;
}

export function templateFindings(states: ReadonlyMap<string, TemplateState>): Finding[] {
  const names = [...states.keys()];
  const absent = names.filter((name) => states.get(name) === 'absent');
  const different = names.filter((name) => states.get(name) === 'different');
  if (absent.length === names.length) return [warn('templates', 'none of them is there yet', 'Run dify-es setup; every sink sees to them at its start too.')];
  const findings: Finding[] = [];
  if (absent.length > 0) findings.push(fail('templates', `${absent.join(', ')} is missing: a new index would get a mapping of its own`, 'Run dify-es setup, or restart a sink.'));
  if (different.length > 0) findings.push(warn('templates', `${different.join(', ')} differs from the configuration`, 'Run dify-es setup; existing indices keep what they have.'));
  return findings.length > 0 ? findings : [ok('templates', `${names.length}, as configured`)];
}

/**
 * Templates of others that would win over ours, or that keep ours from being put: Elasticsearch takes the one with the
 * highest priority and refuses two of equal priority that meet. Only a real name of ours is tried, not the pattern.
 */
export function rivalFindings(ours: readonly OurTemplate[], all: readonly ForeignTemplate[]): Finding[] {
  const own = new Set(ours.map(({ name }) => name));
  const rivals = all.filter(({ name, patterns, priority }) => !own.has(name) && ours.some((our) => priority >= our.priority && patterns.some((pattern) => matches(pattern, our.sampleIndex))));
  if (rivals.length === 0) return [ok('other templates', 'none takes our indices away')];
  return rivals.map(({ name, priority }) => fail('other templates', `${name} (priority ${priority}) matches our indices too and wins`, 'Lower its priority or narrow its patterns, or choose another ELASTICSEARCH_INDEX_PREFIX.'));
}

/** An index pattern of Elasticsearch: `*` is its only wildcard. */
export function matches(pattern: string, name: string): boolean {
  const source = pattern.split('*').map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*');
  return new RegExp(`^${source}$`).test(name);
}

export function blockFinding(blocks: readonly { readonly index: string; readonly block: string }[], settings: ClusterSettings): Finding {
  const cluster = ['read_only', 'read_only_allow_delete'].filter((name) => setting(settings, `cluster.blocks.${name}`) === 'true');
  if (cluster.length > 0) return fail('blocks', `the whole cluster is ${cluster.join(' and ')}`, 'Take cluster.blocks.* back.');
  if (blocks.length === 0) return ok('blocks', 'none');
  const shown = blocks.slice(0, 5).map(({ index, block }) => `${index} (${block})`).join(', ');
  return fail('blocks', `${blocks.length} of our indices take no writes: ${shown}`, 'After a full disk: free space, and set index.blocks.read_only_allow_delete to null where it stays.');
}

/** `true`, `false`, or a list like `+dify-*,-*` of which the first pattern that matches decides. */
export function autoCreateFinding(value: string | undefined, ours: readonly OurTemplate[]): Finding {
  const refused = ours.filter(({ sampleIndex }) => !mayCreate(value ?? 'true', sampleIndex));
  if (refused.length === 0) return ok('action.auto_create_index', 'lets our indices be made');
  return fail('action.auto_create_index', `${JSON.stringify(value)} keeps our indices from being made`, 'Add "+{prefix}-*" with your prefix at its beginning.');
}

function mayCreate(value: string, index: string): boolean {
  if (value === 'true' || value === 'false') return value === 'true';
  for (const entry of value.split(',').map((part) => part.trim())) {
    const pattern = entry.replace(/^[+-]/, '');
    if (matches(pattern, index)) return !entry.startsWith('-');
  }
  return false;
}

export function rightsFinding(missing: readonly string[] | null): Finding {
  if (missing === null) return ok('rights', 'security is off: everybody may do everything');
  if (missing.length === 0) return ok('rights', 'all that is needed');
  return fail('rights', `missing: ${missing.join(', ')}`, 'Give the role monitor and manage_index_templates on the cluster, and all on the indices of the prefix.');
}
