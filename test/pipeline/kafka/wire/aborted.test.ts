import { describe, expect, it } from 'vitest';
import { withoutAborted } from '../../../../src/pipeline/kafka/wire/aborted.ts';

const record = (offset: number, producerId: string) => ({ offset: String(offset), key: Buffer.from(`k${offset}`), isControlRecord: false, batchContext: { producerId, inTransaction: true, isControlBatch: false } });
const marker = (offset: number, producerId: string, type: 0 | 1) => ({ offset: String(offset), key: Buffer.from([0, 0, 0, type]), isControlRecord: true, batchContext: { producerId, inTransaction: true, isControlBatch: true } });
const visible = (messages: readonly { offset: string; isControlRecord: boolean }[]) => messages.filter(({ isControlRecord }) => !isControlRecord).map(({ offset }) => Number(offset));

describe('records of aborted transactions', () => {
  it('stay hidden when the one that began first was aborted last', () => {
    const messages = [record(10, 'A'), record(20, 'B'), record(21, 'A'), marker(30, 'B', 0), record(31, 'B'), marker(50, 'A', 0), record(51, 'A'), marker(52, 'A', 1)];
    const asTheBrokerLists = [{ producerId: 'B', firstOffset: '20' }, { producerId: 'A', firstOffset: '10' }];
    expect(visible(withoutAborted(messages, asTheBrokerLists))).toEqual([31, 51]);
  });

  it('stay hidden when reading begins in the middle of two of them', () => {
    const messages = [record(25, 'B'), record(26, 'A'), marker(30, 'B', 0), marker(31, 'A', 0), record(32, 'A')];
    expect(visible(withoutAborted(messages, [{ producerId: 'A', firstOffset: '10' }, { producerId: 'B', firstOffset: '20' }]))).toEqual([32]);
  });

  it('do not hide those of another producer or outside of transactions', () => {
    const plain = { ...record(12, 'A'), batchContext: { producerId: '-1', inTransaction: false, isControlBatch: false } };
    expect(visible(withoutAborted([record(10, 'A'), record(11, 'C'), plain, marker(13, 'A', 0)], [{ producerId: 'A', firstOffset: '10' }]))).toEqual([11, 12]);
  });

  it('keep their markers, since positions are taken from them', () => {
    expect(withoutAborted([record(10, 'A'), marker(11, 'A', 0)], [{ producerId: 'A', firstOffset: '10' }])).toHaveLength(1);
  });

  it('of the same producer are hidden twice when it aborted twice', () => {
    const messages = [record(1, 'A'), marker(2, 'A', 0), record(3, 'A'), marker(4, 'A', 1), record(5, 'A'), marker(6, 'A', 0)];
    expect(visible(withoutAborted(messages, [{ producerId: 'A', firstOffset: '1' }, { producerId: 'A', firstOffset: '5' }]))).toEqual([3]);
  });
});
