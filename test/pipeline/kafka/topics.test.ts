import { describe, expect, it } from 'vitest';
import { layoutFault, MAX_ROW_BYTES, topicConfig, topicNames, type TopicState, verifyTopics } from '../../../src/pipeline/kafka/topics.ts';

const names = topicNames('dify');
const kindOf = (topic: string) => (topic === names.control ? 'control' : topic === names.dlq ? 'dlq' : 'table');
const good = (topic: string, replicationFactor = 1): TopicState => ({ topic, exists: true, partitions: kindOf(topic) === 'table' ? 6 : 1, replicationFactor, underReplicated: 0, config: topicConfig(kindOf(topic), replicationFactor) });
const all = (change: (state: TopicState) => TopicState): TopicState[] => names.all.map((topic) => change(good(topic)));

describe('topics', () => {
  it('are named after the prefix and the table', () => {
    expect(names.table.workflow_runs).toBe('dify.cdc.workflow_runs');
    expect([...names.all].sort()).toEqual(['control', 'dlq', 'workflow_app_logs', 'workflow_node_execution_offload', 'workflow_node_executions', 'workflow_runs'].map((name) => `dify.cdc.${name}`));
  });

  it('take a row of 20 MiB, sync to disk with one copy and ask for two in sync with three', () => {
    expect(Number(topicConfig('table', 1)['max.message.bytes'])).toBeGreaterThan(MAX_ROW_BYTES);
    expect(MAX_ROW_BYTES).toBeGreaterThan(20 * 1024 * 1024);
    expect(topicConfig('table', 1)).toMatchObject({ 'flush.messages': '1', 'min.insync.replicas': '1', 'cleanup.policy': 'compact' });
    expect(topicConfig('table', 3)).toMatchObject({ 'min.insync.replicas': '2' });
    expect(topicConfig('table', 3)).not.toHaveProperty('flush.messages');
    expect(topicConfig('dlq', 1)).toMatchObject({ 'cleanup.policy': 'delete', 'retention.ms': '-1' });
    expect(Number(topicConfig('dlq', 1)['max.message.bytes'])).toBeGreaterThan(Number(topicConfig('table', 1)['max.message.bytes']));
  });

  it('as they were made have no finding', () => {
    expect(verifyTopics(all((state) => state), names, 6)).toEqual([]);
  });

  it('that are missing, split otherwise or set otherwise are each named', () => {
    const broken = all((state) => {
      if (state.topic === names.dlq) return { ...state, exists: false };
      if (state.topic === names.table.workflow_runs) return { ...state, partitions: 7 };
      if (state.topic === names.table.workflow_app_logs) return { ...state, config: { ...state.config, 'cleanup.policy': 'delete', 'segment.ms': '1' } };
      return state;
    });
    expect(verifyTopics(broken, names, 6).map(({ topic, what, severity }) => [topic.slice(9), what, severity])).toEqual([
      ['workflow_runs', 'partitions', 'fault'],
      ['workflow_app_logs', 'cleanup.policy', 'fault'],
      ['workflow_app_logs', 'segment.ms', 'warning'],
      ['dlq', 'exists', 'fault'],
    ]);
  });

  it('with one copy that is not synced at each append lose what was acknowledged, whatever flush.ms says', () => {
    const asBefore = all((state) => (state.topic === names.control ? { ...state, config: { ...state.config, 'flush.messages': '9223372036854775807', 'flush.ms': '1000' } } : state));
    expect(verifyTopics(asBefore, names, 6)).toEqual([{ topic: names.control, what: 'flush.messages', expected: '1', actual: '9223372036854775807', severity: 'fault' }]);
  });

  it('may take more and keep longer than asked', () => {
    expect(verifyTopics(all((state) => ({ ...state, config: { ...state.config, 'max.message.bytes': '99999999' } })), names, 6)).toEqual([]);
    expect(verifyTopics(all((state) => ({ ...state, config: { ...state.config, 'max.message.bytes': '1048588' } })), names, 6)).toHaveLength(6);
  });
});

describe('the pinned layout', () => {
  it('accepts the first time and the same again, and refuses another number or partitioner', () => {
    expect(layoutFault(undefined, 6)).toBeUndefined();
    expect(layoutFault({ partitions: 6, partitioner: 'crc32-of-id' }, 6)).toBeUndefined();
    expect(layoutFault({ partitions: 6, partitioner: 'crc32-of-id' }, 12)).toMatch(/6 partitions.*12/);
    expect(layoutFault({ partitions: 6, partitioner: 'murmur2' }, 6)).toMatch(/murmur2/);
  });
});
