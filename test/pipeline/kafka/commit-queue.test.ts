import { expect, it } from 'vitest';
import { CommitQueue, type Position } from '../../../src/pipeline/kafka/commit-queue.ts';

const position = (partition: number, offset: string): Position => ({ topic: 'runs', partition, offset });

/** A group whose answers are given by hand. */
function groupOf() {
  const requests: { positions: readonly Position[]; answer: PromiseWithResolvers<void> }[] = [];
  const queue = new CommitQueue((positions) => {
    const answer = Promise.withResolvers<void>();
    requests.push({ positions, answer });
    return answer.promise;
  });
  return { queue, requests };
}
const turn = (): Promise<void> => new Promise((done) => setImmediate(done));
const always = (): boolean => true;

it('sends what comes while a request is under way together in the next one, in order', async () => {
  const { queue, requests } = groupOf();
  const first = queue.commit(position(0, '10'), always);
  const others = [queue.commit(position(1, '20'), always), queue.commit(position(0, '11'), always)];
  await turn();
  expect(requests.map(({ positions }) => positions)).toEqual([[position(0, '10')]]);
  requests[0]!.answer.resolve();
  await first;
  await turn();
  expect(requests[1]!.positions).toEqual([position(1, '20'), position(0, '11')]);
  requests[1]!.answer.resolve();
  await Promise.all(others);
  const last = queue.commit(position(2, '5'), always);
  requests[2]!.answer.resolve();
  await last;
  expect(requests).toHaveLength(3);
});

it('fails those of a request that failed and goes on with the others', async () => {
  const { queue, requests } = groupOf();
  const first = queue.commit(position(0, '10'), always);
  const second = queue.commit(position(1, '20'), always);
  requests[0]!.answer.reject(new Error('REBALANCE_IN_PROGRESS'));
  await expect(first).rejects.toThrow('REBALANCE_IN_PROGRESS');
  await turn();
  requests[1]!.answer.resolve();
  await second;
});

it('never sends a position that waited into another generation of the group', async () => {
  const { queue, requests } = groupOf();
  let generation = 1;
  const readIn = (mine: number) => (): boolean => generation === mine;
  const first = queue.commit(position(0, '10'), readIn(1));
  const late = queue.commit(position(1, '20'), readIn(1));
  late.catch(() => undefined);
  generation = 2;
  const after = queue.commit(position(2, '30'), readIn(2));
  requests[0]!.answer.resolve();
  await first;
  await expect(late).rejects.toMatchObject({ code: 'KAFKA_UNREACHABLE' });
  await turn();
  expect(requests[1]!.positions).toEqual([position(2, '30')]);
  requests[1]!.answer.resolve();
  await after;
});
