import { fail, ok, size, warn, type Finding } from '../finding.ts';
import { setting, type ClusterSettings, type Health, type NodeFacts } from './facts.ts';

/** 8.14.3 is what Dify's own compose file ships; 8.19 and 9.5 are what this program is tested with. */
export function versionFinding(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major === 8 && minor >= 14) return ok('version', version);
  if (major === 9) return ok('version', version);
  return fail('version', `Elasticsearch ${version}`, 'Use 8.14 or later, or 9.');
}

export function healthFinding({ status, unassigned_shards: unassigned }: Health, replicas: number): Finding {
  if (status === 'red') return fail('health', `red: ${unassigned} shards have no copy at all`, 'Bring the missing nodes back before anything else.');
  if (status === 'yellow') return warn('health', `yellow: ${unassigned} copies of shards are not assigned`, replicas > 0 ? 'Add a node, or set ELASTICSEARCH_INDEX_REPLICAS=0.' : 'See _cluster/allocation/explain.');
  return ok('health', 'green');
}

/** Shards in the whole cluster; 1,000 for each data node is Elasticsearch's own default. */
export function shardUse(health: Health, settings: ClusterSettings): { readonly used: number; readonly limit: number; readonly perNode: number } {
  const perNode = Number(setting(settings, 'cluster.max_shards_per_node') ?? 1000);
  return { used: health.active_shards + health.unassigned_shards, limit: perNode * health.number_of_data_nodes, perNode };
}

/**
 * The limit of shards in the whole cluster; at the limit no index of a new month or tenant can be made. `needed`: an
 * upper bound of the indices that PostgreSQL's rows will make, null when nobody could count.
 */
export function shardFinding(health: Health, settings: ClusterSettings, needed: number | null): Finding {
  const { used, limit, perNode } = shardUse(health, settings);
  const free = limit - used;
  const cure = `Raise cluster.max_shards_per_node (${perNode}), or add nodes; dify-es migrate --dry-run counts exactly.`;
  const message = `${used} of ${limit} in use`;
  if (free <= 0) return fail('shards', message, cure);
  if (needed !== null && needed > free) return warn('shards', `${message}, and up to ${needed} more are to come`, cure);
  if (free < limit * 0.1) return warn('shards', message, cure);
  return ok('shards', needed === null ? message : `${message}, up to ${needed} to come`);
}

export function diskFindings(nodes: readonly NodeFacts[], settings: ClusterSettings): Finding[] {
  const findings: Finding[] = [];
  for (const { diskTotalBytes: total, diskAvailableBytes: available } of nodes.filter(({ data, diskTotalBytes }) => data && diskTotalBytes > 0)) {
    const below = (name: string): boolean => available < requiredBytes(settings, name, total);
    const message = `${size(available)} of ${size(total)} left on a node`;
    if (below('flood_stage')) findings.push(fail('disk', `${message}: past the flood stage, its indices take no writes`, 'Free space or add a node; the blocks go away by themselves.'));
    else if (below('high')) findings.push(warn('disk', `${message}: past the high watermark, shards are moved away`, 'Free space or add a node.'));
    else if (below('low')) findings.push(warn('disk', `${message}: past the low watermark, it takes no new shards`, 'Free space or add a node.'));
  }
  return findings.length > 0 ? findings : [ok('disk', `${size(Math.min(...nodes.filter(({ data }) => data).map((node) => node.diskAvailableBytes)))} left on the fullest node`)];
}

/**
 * Bytes that must stay free below a watermark: `85%` used (with the headroom that bounds it on large disks), `0.85`, or
 * an amount like `20gb`. https://www.elastic.co/docs/reference/elasticsearch/configuration-reference/cluster-level-shard-allocation-routing-settings
 */
export function requiredBytes(settings: ClusterSettings, name: string, total: number): number {
  const base = 'cluster.routing.allocation.disk.';
  if (setting(settings, `${base}threshold_enabled`) === 'false') return 0;
  const text = (setting(settings, `${base}watermark.${name}`) ?? '').trim();
  const headroom = parseBytes(setting(settings, `${base}watermark.${name}.max_headroom`));
  const share = /^(\d+(?:\.\d+)?)%$/.exec(text)?.[1];
  const used = share !== undefined ? Number(share) / 100 : /^0?\.\d+$/.test(text) ? Number(text) : undefined;
  if (used === undefined) return parseBytes(text) ?? 0;
  const free = total * (1 - used);
  return headroom === undefined ? free : Math.min(free, headroom);
}

/** What the data nodes take together before their high watermarks, past which a full disk ends in indices that take no writes; null when none says. */
export function diskRoom(nodes: readonly NodeFacts[], settings: ClusterSettings): number | null {
  const disks = nodes.filter(({ data, diskTotalBytes }) => data && diskTotalBytes > 0);
  if (disks.length === 0) return null;
  return disks.reduce((sum, { diskTotalBytes, diskAvailableBytes }) => sum + Math.max(0, diskAvailableBytes - requiredBytes(settings, 'high', diskTotalBytes)), 0);
}

function parseBytes(text: string | undefined): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(b|kb|mb|gb|tb|pb)$/i.exec(text ?? '');
  return match ? Number(match[1]) * 1024 ** ['b', 'kb', 'mb', 'gb', 'tb', 'pb'].indexOf(match[2]!.toLowerCase()) : undefined;
}

/** Elasticsearch refuses for ever a document above about 2 % of the heap; a request above http.max_content_length. */
export function sizeFindings(nodes: readonly NodeFacts[]): Finding[] {
  const content = Math.min(...nodes.map(({ maxContentBytes }) => maxContentBytes));
  const heap = Math.min(...nodes.map(({ heapBytes }) => heapBytes));
  const MIB = 1024 * 1024;
  return [
    content < 32 * MIB ? warn('http.max_content_length', `${size(content)}: larger rows become dead letters`, 'Set http.max_content_length to 100mb on every node.') : ok('http.max_content_length', size(content)),
    heap < 512 * MIB ? warn('heap', `${size(heap)}: documents above about ${size(Math.round(heap * 0.02))} become dead letters`, 'Give the nodes more memory.') : ok('heap', `${size(heap)}: documents up to about ${size(Math.round(heap * 0.02))}`),
  ];
}
