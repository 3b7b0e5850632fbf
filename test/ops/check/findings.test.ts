import { describe, expect, test } from 'vitest';
import { exitCodeOf } from '../../../src/ops/check/check.ts';
import { diskFindings, diskRoom, healthFinding, requiredBytes, shardFinding, sizeFindings, versionFinding } from '../../../src/ops/check/elasticsearch/cluster.ts';
import { setting, type ClusterSettings, type Health, type NodeFacts } from '../../../src/ops/check/elasticsearch/facts.ts';
import { autoCreateFinding, blockFinding, matches, rightsFinding, rivalFindings, templateFindings } from '../../../src/ops/check/elasticsearch/indices.ts';
import { fail, ok, warn, type Finding } from '../../../src/ops/check/finding.ts';
import { brokerFindings, layoutFinding, topicFindings } from '../../../src/ops/check/kafka/findings.ts';
import { activityFindings } from '../../../src/ops/check/postgres/activity.ts';
import { publicationFindings } from '../../../src/ops/check/postgres/publication.ts';
import { headroomFindings, serverFindings } from '../../../src/ops/check/postgres/server.ts';
import { slotFindings } from '../../../src/ops/check/postgres/slot.ts';
import { tableFindings } from '../../../src/ops/check/postgres/tables.ts';
import type { ServerFacts } from '../../../src/ops/setup/server-facts.ts';
import type { PublicationState, TableState } from '../../../src/ops/setup/source-state.ts';
import { parseLsn } from '../../../src/core/lsn.ts';
import type { SlotState } from '../../../src/pipeline/capture/slot.ts';
import { topicConfig, topicNames, type TopicState } from '../../../src/pipeline/kafka/topics.ts';

const GB = 1024 ** 3;

const server = (more: Partial<ServerFacts> = {}): ServerFacts => ({
  version: 180_004, versionText: '18.4', walLevel: 'logical', inRecovery: false, encoding: 'UTF8', synchronousStandbyNames: '',
  maxReplicationSlots: 10, slotsUsed: 0, maxWalSenders: 10, walSendersUsed: 0, walSenderTimeoutMs: 60_000, maxSlotWalKeepBytes: 50 * GB,
  idleSlotTimeoutSeconds: 0, preparedTransactions: [], role: 'dify', superuser: false, mayReplicate: true, mayCreatePublication: true, seesOtherSessions: true, ...more,
});
const bad = (findings: readonly Finding[]): string[] => findings.filter(({ level }) => level !== 'ok').map(({ level, subject }) => `${level} ${subject}`);

test('every finding that is not well says what to do', () => {
  expect(ok('a', 'b').cure).toBeNull();
  for (const finding of [warn('a', 'b', 'c'), fail('a', 'b', 'c')]) expect(finding.cure).toBe('c');
});

describe('the exit code', () => {
  const check = (findings: Finding[], reached = true) => ({ server: 'kafka' as const, reached, findings });

  test('warnings are no reason to stop, a failure is, and a server that is away counts most', () => {
    expect(exitCodeOf([check([ok('a', 'b'), warn('a', 'b', 'c')])])).toBe(0);
    expect(exitCodeOf([check([fail('a', 'b', 'c')]), check([])])).toBe(1);
    expect(exitCodeOf([check([fail('a', 'b', 'c')]), check([fail('connection', 'b', 'c')], false)])).toBe(3);
  });
});

describe('PostgreSQL', () => {
  test('a server that fits has nothing to say', () => {
    expect(bad(serverFindings(server()))).toEqual([]);
  });

  test('each setting that does not fit is found', () => {
    expect(bad(serverFindings(server({ version: 130_010 })))).toEqual(['fail version']);
    expect(bad(serverFindings(server({ version: 190_000 })))).toEqual(['warn version']);
    expect(bad(serverFindings(server({ walLevel: 'replica' })))).toEqual(['fail wal_level']);
    expect(bad(serverFindings(server({ inRecovery: true, encoding: 'LATIN1' })))).toEqual(['fail server', 'fail server']);
    expect(bad(serverFindings(server({ walSenderTimeoutMs: 0 })))).toEqual(['warn wal_sender_timeout']);
    for (const names of ['*', 'ANY 1 (other, "dify-es stream")']) expect(bad(serverFindings(server({ synchronousStandbyNames: names })))).toEqual(['fail synchronous_standby_names']);
    expect(bad(serverFindings(server({ synchronousStandbyNames: 'standby1' })))).toEqual([]);
  });

  test('a slot and a sender of our own do not count against us', () => {
    expect(bad(headroomFindings(server({ slotsUsed: 10, walSendersUsed: 10 }), { slot: true, sender: true }))).toEqual([]);
    expect(bad(headroomFindings(server({ slotsUsed: 10, walSendersUsed: 10 }), { slot: false, sender: false }))).toEqual(['fail max_replication_slots', 'fail max_wal_senders']);
  });

  const names = { schema: 'public', database: 'dify', publication: 'dify_es', slot: 'dify_es' };
  const slot = (more: Partial<SlotState> = {}): SlotState => ({
    name: 'dify_es', plugin: 'pgoutput', database: 'dify', activePid: 1, restartLsn: parseLsn('0/1'), confirmedFlushLsn: parseLsn('0/1'), walStatus: 'reserved', safeWalSize: null, invalidation: null, failover: false, ...more,
  });
  const wal = (facts: { slot?: SlotState | null; retainedBytes?: number; budgetBytes?: number }, of: ServerFacts = server(), isSetUp = true): string[] =>
    bad(slotFindings({ slot: slot(), retainedBytes: 0, budgetBytes: 0, ...facts }, of, names, isSetUp));

  test('WAL without any limit fails, the server\'s own is enough, and the budget alone is to be known: nobody acts on it while the reader is away', () => {
    expect(wal({}, server({ maxSlotWalKeepBytes: -1 }))).toEqual(['fail WAL limit']);
    expect(wal({ budgetBytes: GB }, server({ maxSlotWalKeepBytes: -1 }))).toEqual(['warn WAL limit']);
    expect(wal({ budgetBytes: GB })).toEqual([]);
    expect(wal({})).toEqual([]);
  });

  test('retained WAL is measured against the lower limit', () => {
    expect(wal({ retainedBytes: 0.8 * GB, budgetBytes: GB })).toEqual(['warn WAL limit']);
    expect(wal({ retainedBytes: 1.1 * GB, budgetBytes: GB })).toEqual(['fail WAL limit']);
    expect(wal({ retainedBytes: 0.8 * GB })).toEqual([]);
  });

  test('each state of the slot is told apart', () => {
    expect(wal({ slot: slot({ activePid: null }) })).toEqual(['warn slot']);
    expect(wal({ slot: slot({ walStatus: 'unreserved' }) })).toEqual(['fail slot']);
    expect(wal({ slot: slot({ walStatus: 'lost', invalidation: 'wal_removed' }) })).toEqual(['fail slot']);
    expect(wal({ slot: slot({ database: 'other' }) })).toEqual(['fail slot']);
    expect(wal({ slot: null })).toEqual(['fail slot']);
    expect(wal({ slot: null }, server(), false)).toEqual(['warn slot']);
    expect(wal({}, server({ idleSlotTimeoutSeconds: 3600 }))).toEqual(['warn idle_replication_slot_timeout']);
  });

  test('the publication is compared with the tables', () => {
    const state = (more: Partial<PublicationState> = {}): PublicationState => ({ comment: null, owned: true, allTables: false, everyOperation: true, tables: new Map([['workflow_runs', { limited: false }]]), foreign: [], ...more });
    const look = (it: PublicationState | null, isSetUp = true): string[] => bad(publicationFindings('p', it, ['workflow_runs'], isSetUp));
    expect(look(state())).toEqual([]);
    expect(look(null)).toEqual(['fail publication']);
    expect(look(null, false)).toEqual(['warn publication']);
    expect(look(state({ tables: new Map() }))).toEqual(['fail publication']);
    expect(look(state({ everyOperation: false }))).toEqual(['fail publication']);
    expect(look(state({ tables: new Map([['workflow_runs', { limited: true }]]) }))).toEqual(['fail publication']);
    expect(look(state({ foreign: ['public.users'] }))).toEqual(['warn publication']);
    expect(look(state({ allTables: true }))).toEqual(['warn publication']);
  });

  test('an identity that stops Dify fails always, one that is only missing fails once setup has run', () => {
    const table = (identity: TableState['identity'], more: Partial<TableState> = {}): TableState => ({ table: 'workflow_runs', oid: 1, relkind: 'r', unlogged: false, hasPrimaryKey: true, missing: [], nullable: [], owned: true, selectable: true, identity, ownIndex: null, ...more });
    const columns = new Map([['workflow_runs' as const, { id: 'uuid', tenant_id: 'uuid', created_at: 'timestamp without time zone' }]]);
    const look = (state: TableState, isSetUp: boolean, of = columns): string[] => bad(tableFindings([state], of, 'public', isSetUp));
    expect(look(table({ kind: 'index-gone' }), false)).toEqual(['fail identity workflow_runs']);
    expect(look(table({ kind: 'default' }), false)).toEqual(['warn identity workflow_runs']);
    expect(look(table({ kind: 'default' }), true)).toEqual(['fail identity workflow_runs']);
    expect(look(table({ kind: 'full' }), true)).toEqual([]);
    expect(look(table({ kind: 'full' }, { relkind: 'p' }), true)).toEqual(['fail table workflow_runs']);
    const zoned = new Map([['workflow_runs' as const, { id: 'uuid', tenant_id: 'uuid', created_at: 'timestamp with time zone' }]]);
    expect(look(table({ kind: 'full' }), true, zoned)).toEqual(['fail table workflow_runs']);
    expect(bad(tableFindings([], new Map(), 'public', false))).toEqual(['fail tables']);
  });

  test('what setup and migrate would wait for is named without its query', () => {
    const findings = activityFindings([{ pid: 7, name: 'celery', state: 'idle in transaction', ageSeconds: 900 }], server({ preparedTransactions: [{ gid: 'lost', ageSeconds: 5.5 }] }));
    expect(bad(findings)).toEqual(['warn long transactions', 'warn prepared transactions']);
    expect(findings.map(({ message }) => message)).toEqual(['pid 7 (celery, idle in transaction, 900 s)', "prepared transaction 'lost', 6 s old"]);
  });
});

describe('Kafka', () => {
  const names = topicNames('x');
  const settings = { 'log.cleaner.enable': 'true', 'socket.request.max.bytes': '104857600', 'transaction.max.timeout.ms': '900000', 'offsets.retention.minutes': '10080' };
  const topic = (name: string, more: Partial<TopicState> = {}): TopicState => ({
    topic: name, exists: true, partitions: name === names.control || name === names.dlq ? 1 : 6, replicationFactor: 1, underReplicated: 0,
    config: topicConfig(name === names.control ? 'control' : name === names.dlq ? 'dlq' : 'table', 1), ...more,
  });
  const all = (change: (name: string) => Partial<TopicState> = () => ({})): TopicState[] => names.all.map((name) => topic(name, change(name)));

  test('more copies than brokers fail, and one copy on three brokers is worth a word', () => {
    expect(bad(brokerFindings({ count: 1, settings }, 1))).toEqual([]);
    expect(bad(brokerFindings({ count: 1, settings }, 3))).toEqual(['fail brokers']);
    expect(bad(brokerFindings({ count: 3, settings }, 1))).toEqual(['warn brokers']);
  });

  test('a broker that never compacts, takes no large row or forgets offsets is found', () => {
    expect(bad(brokerFindings({ count: 1, settings: { ...settings, 'log.cleaner.enable': 'false' } }, 1))).toEqual(['fail log.cleaner.enable']);
    expect(bad(brokerFindings({ count: 1, settings: { ...settings, 'socket.request.max.bytes': '1048576' } }, 1))).toEqual(['fail socket.request.max.bytes']);
    expect(bad(brokerFindings({ count: 1, settings: { ...settings, 'transaction.max.timeout.ms': '5000' } }, 1))).toEqual(['fail transaction.max.timeout.ms']);
    expect(bad(brokerFindings({ count: 1, settings: { ...settings, 'offsets.retention.minutes': '60' } }, 1))).toEqual(['warn offsets.retention.minutes']);
    expect(bad(brokerFindings({ count: 1, settings: null }, 1))).toEqual(['warn broker settings']);
  });

  test('no topic at all is a setup that has not run; one that is missing is a loss', () => {
    expect(bad(topicFindings(all(() => ({ exists: false })), names, 6))).toEqual(['warn topics']);
    expect(bad(topicFindings(all((name) => ({ exists: name !== names.dlq })), names, 6))).toEqual(['fail topics']);
    expect(bad(topicFindings(all(), names, 6))).toEqual([]);
  });

  test('a setting that loses records fails', () => {
    const wrong = all((name) => (name === names.table.workflow_runs ? { config: { ...topicConfig('table', 1), 'cleanup.policy': 'delete' } } : {}));
    expect(bad(topicFindings(wrong, names, 6))).toEqual([`fail topic ${names.table.workflow_runs}`]);
  });

  test('the number of partitions is held against what was pinned', () => {
    const tables = (partitions: number): TopicState[] => Object.values(names.table).map((name) => topic(name, { partitions }));
    const pinned = { partitions: 6, partitioner: 'crc32-of-id' };
    expect(layoutFinding(pinned, tables(6), 6).level).toBe('ok');
    expect(layoutFinding(pinned, tables(12), 12).level).toBe('fail');
    expect(layoutFinding(pinned, tables(6), 12).level).toBe('warn');
    expect(layoutFinding({ ...pinned, partitioner: 'murmur2' }, tables(6), 6).level).toBe('fail');
    expect(layoutFinding(undefined, [topic(names.table.workflow_runs, { partitions: 3 }), topic(names.table.workflow_app_logs)], 6).level).toBe('fail');
    expect(layoutFinding(undefined, [], 6).level).toBe('ok');
  });
});

describe('Elasticsearch', () => {
  test('versions', () => {
    expect(['8.14.3', '8.19.21', '9.0.0', '9.5.3'].map((version) => versionFinding(version).level)).toEqual(['ok', 'ok', 'ok', 'ok']);
    expect(['7.17.0', '8.13.4', '10.0.0'].map((version) => versionFinding(version).level)).toEqual(['fail', 'fail', 'fail']);
  });

  const health = (more: Partial<Health> = {}): Health => ({ status: 'green', number_of_data_nodes: 1, active_shards: 10, unassigned_shards: 0, ...more });

  test('health', () => {
    expect(healthFinding(health(), 0).level).toBe('ok');
    expect(healthFinding(health({ status: 'yellow', unassigned_shards: 3 }), 1)).toMatchObject({ level: 'warn', cure: expect.stringContaining('REPLICAS=0') as unknown });
    expect(healthFinding(health({ status: 'red' }), 0).level).toBe('fail');
  });

  test('shards that are there and those to come are held against the limit of all nodes', () => {
    const settings = { defaults: { cluster: { max_shards_per_node: '100' } } };
    expect(shardFinding(health(), settings, 50).level).toBe('ok');
    expect(shardFinding(health(), settings, 91).level).toBe('warn');
    expect(shardFinding(health({ number_of_data_nodes: 2 }), settings, 91).level).toBe('ok');
    expect(shardFinding(health({ active_shards: 95 }), settings, null).level).toBe('warn');
    expect(shardFinding(health({ active_shards: 60, unassigned_shards: 40 }), settings, 0).level).toBe('fail');
    expect(shardFinding(health({ active_shards: 95 }), { ...settings, transient: { cluster: { max_shards_per_node: '1000' } } }, null).level).toBe('ok');
  });

  const disk = (more: Record<string, string> = {}): ClusterSettings => ({
    defaults: { cluster: { routing: { allocation: { disk: { threshold_enabled: 'true', watermark: { low: '85%', high: '90%', flood_stage: '95%', 'low.max_headroom': '200GB', 'high.max_headroom': '150GB', 'flood_stage.max_headroom': '100GB', ...more } } } } } },
  });
  const node = (available: number, total = 100 * GB): NodeFacts => ({ data: true, heapBytes: GB, maxContentBytes: 100 * 1024 ** 2, diskTotalBytes: total, diskAvailableBytes: available });

  test('watermarks as shares, with their headroom on large disks, and as amounts', () => {
    expect(setting(disk(), 'cluster.routing.allocation.disk.watermark.high.max_headroom')).toBe('150GB');
    expect(requiredBytes(disk(), 'flood_stage', 100 * GB)).toBeCloseTo(5 * GB);
    expect(requiredBytes(disk(), 'flood_stage', 10_000 * GB)).toBe(100 * GB);
    expect(requiredBytes(disk({ high: '30gb' }), 'high', 100 * GB)).toBe(30 * GB);
    expect(requiredBytes(disk({ high: '0.8' }), 'high', 100 * GB)).toBeCloseTo(20 * GB);
    expect([50, 12, 8, 3].map((left) => bad(diskFindings([node(left * GB)], disk())))).toEqual([[], ['warn disk'], ['warn disk'], ['fail disk']]);
    expect(bad(diskFindings([node(0)], { defaults: { cluster: { routing: { allocation: { disk: { threshold_enabled: 'false' } } } } } }))).toEqual([]);
  });

  test('the room on disks ends at the high watermark of each data node', () => {
    const large = [node(100 * GB, 1024 * GB), node(300 * GB, 1000 * GB), { ...node(500 * GB), data: false }];
    expect(diskRoom(large.slice(0, 1), disk())).toBe(0);
    expect(diskRoom(large, disk())).toBeCloseTo(200 * GB);
    expect(diskRoom(large, { defaults: { cluster: { routing: { allocation: { disk: { threshold_enabled: 'false' } } } } } })).toBe(400 * GB);
    expect(diskRoom([node(0, 0)], disk())).toBeNull();
  });

  test('small nodes are named with what it costs', () => {
    expect(bad(sizeFindings([node(1), { ...node(1), heapBytes: 256 * 1024 ** 2, maxContentBytes: 10 * 1024 ** 2 }]))).toEqual(['warn http.max_content_length', 'warn heap']);
    expect(bad(sizeFindings([node(1)]))).toEqual([]);
  });

  const ours = [{ name: 'dify-cdc-workflow-runs-template', priority: 500, sampleIndex: 'dify-workflow-runs-00000000-0000-4000-8000-000000000000-2025.01' }];

  test('a template of somebody else counts when it matches a name of ours and is not lower', () => {
    const rival = (patterns: string[], priority: number): string[] => bad(rivalFindings(ours, [{ name: 'theirs', patterns, priority }]));
    expect(rival(['dify-*'], 500)).toEqual(['fail other templates']);
    expect(rival(['other-*', '*-2025.*'], 900)).toEqual(['fail other templates']);
    expect(rival(['dify-*'], 0)).toEqual([]);
    expect(rival(['dify-workflow-app-logs-*'], 900)).toEqual([]);
    expect(bad(rivalFindings(ours, [{ name: ours[0]!.name, patterns: ['dify-*'], priority: 500 }]))).toEqual([]);
    expect(matches('a.b*', 'aXbc')).toBe(false);
  });

  test('templates: none yet, one missing, one changed', () => {
    expect(bad(templateFindings(new Map([['a', 'absent'], ['b', 'absent']])))).toEqual(['warn templates']);
    expect(bad(templateFindings(new Map([['a', 'absent'], ['b', 'current']])))).toEqual(['fail templates']);
    expect(bad(templateFindings(new Map([['a', 'different'], ['b', 'current']])))).toEqual(['warn templates']);
    expect(bad(templateFindings(new Map([['a', 'current']])))).toEqual([]);
  });

  test('action.auto_create_index: the first pattern that matches decides', () => {
    expect(['true', 'false', '+dify-*,-*', '-dify-*,+*', 'logs-*', '+*', undefined].map((value) => autoCreateFinding(value, ours).level)).toEqual(['ok', 'fail', 'ok', 'fail', 'fail', 'ok', 'ok']);
  });

  test('blocks and rights', () => {
    expect(blockFinding([], {}).level).toBe('ok');
    expect(blockFinding([{ index: 'i', block: 'index.blocks.read_only_allow_delete' }], {}).level).toBe('fail');
    expect(blockFinding([], { persistent: { cluster: { blocks: { read_only: 'true' } } } }).level).toBe('fail');
    expect([null, [], ['monitor']].map((missing) => rightsFinding(missing).level)).toEqual(['ok', 'ok', 'fail']);
  });
});
