import { describe, expect, it } from 'vitest';
import { DifyEsError } from '../../../src/core/errors.ts';
import { classifyKafkaError, isTooLarge, toDifyEsError } from '../../../src/pipeline/kafka/kafka-errors.ts';

const error = (fields: Record<string, unknown>): Error => Object.assign(new Error('text that must not matter'), fields);
const wrapped = (cause: Error): Error => error({ name: 'KafkaJSNumberOfRetriesExceeded', retriable: false, cause: error({ name: 'KafkaJSNonRetriableError', retriable: false, cause }) });

describe('errors of kafkajs', () => {
  it.each([
    ['a fenced producer', error({ type: 'INVALID_PRODUCER_EPOCH' }), 'KAFKA_FENCED', false],
    ['a wrong password', error({ name: 'KafkaJSSASLAuthenticationError' }), 'KAFKA_AUTH', false],
    ['a certificate of another CA', error({ name: 'KafkaJSConnectionError', code: 'SELF_SIGNED_CERT_IN_CHAIN' }), 'KAFKA_AUTH', false],
    ['no rights on a topic', error({ type: 'TOPIC_AUTHORIZATION_FAILED' }), 'KAFKA_AUTH', false],
    ['a topic that is missing', error({ type: 'UNKNOWN_TOPIC_OR_PARTITION', retriable: true }), 'KAFKA_TOPIC_MISSING', false],
    ['a refused connection', error({ name: 'KafkaJSConnectionError', code: 'ECONNREFUSED' }), 'KAFKA_UNREACHABLE', true],
    ['no leader', error({ type: 'LEADER_NOT_AVAILABLE', retriable: true }), 'KAFKA_UNREACHABLE', true],
    ['too few replicas', error({ type: 'NOT_ENOUGH_REPLICAS', retriable: true }), 'KAFKA_UNREACHABLE', true],
    ['a transaction the broker forgot', error({ type: 'INVALID_TXN_STATE', retriable: false }), 'KAFKA_UNREACHABLE', true],
    ['a sequence out of order', error({ type: 'OUT_OF_ORDER_SEQUENCE_NUMBER', retriable: false }), 'KAFKA_UNREACHABLE', true],
    ['a commit that met a taking over of its id', error({ type: 'UNKNOWN', retriable: false }), 'KAFKA_UNREACHABLE', true],
    ['a replication factor above the brokers', error({ type: 'INVALID_REPLICATION_FACTOR' }), 'CONFIG_INVALID', false],
    ['a fault of ours', new TypeError('x is not a function'), 'INTERNAL', false],
    ['an unknown broker error', error({ type: 'CORRUPT_SOMETHING', retriable: false }), 'INTERNAL', false],
  ])('%s is known, also inside of others', (_what, cause, code, retriable) => {
    for (const one of [cause, wrapped(cause), error({ name: 'KafkaJSAggregateError', errors: [cause] })]) {
      expect(classifyKafkaError(one)).toMatchObject({ code, retriable });
      expect(toDifyEsError(one, 'test').code).toBe(code);
    }
  });

  it('that say how large a record may be are told from the rest', () => {
    expect(isTooLarge(wrapped(error({ type: 'MESSAGE_TOO_LARGE' })))).toBe(true);
    expect(isTooLarge(error({ type: 'RECORD_LIST_TOO_LARGE' }))).toBe(true);
    expect(isTooLarge(error({ type: 'INVALID_RECORD' }))).toBe(false);
  });

  it('keep what was said before and never carry the text of a server', () => {
    const known = new DifyEsError('KAFKA_AUTH', 'said before');
    expect(toDifyEsError(known, 'test')).toBe(known);
    expect(toDifyEsError(error({ type: 'LEADER_NOT_AVAILABLE', retriable: true }), 'test').message).toBe('Kafka: could not test (LEADER_NOT_AVAILABLE)');
  });
});
