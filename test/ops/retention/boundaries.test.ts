import type { Client } from '@elastic/elasticsearch';
import { expect, it } from 'vitest';
import { dropExpired } from '../../../src/ops/retention/retention.ts';
import { stateKeys, type ControlLog, type RetentionRecord } from '../../../src/core/state.ts';

const A = '11111111-1111-4111-8111-111111111111';
const B = '22222222-2222-4222-8222-222222222222';
const record = (tenantId: string, throughMonth: string): RetentionRecord => ({ tenantId, throughMonth, at: '' });

it('a boundary that another retention has moved on since the plan was made is not moved back', async () => {
  const onTopic = new Map<string, unknown>();
  const view = new Map<string, unknown>();
  const control = {
    get: (key: string) => view.get(key),
    refresh: () => Promise.resolve(void onTopic.forEach((value, key) => view.set(key, value))),
    put: (key: string, value: unknown) => Promise.resolve(void onTopic.set(key, value)),
  } as unknown as ControlLog;
  onTopic.set(stateKeys.retention(A), record(A, '2025.09'));
  const options = { client: {} as Client, control, prefix: 'dify', tenantIds: [], days: 90, signal: new AbortController().signal };

  await dropExpired(options, { indices: [], boundaries: [record(A, '2025.07'), record(B, '2025.07')] }, () => {});

  expect(onTopic.get(stateKeys.retention(A))).toEqual(record(A, '2025.09'));
  expect(onTopic.get(stateKeys.retention(B))).toEqual(record(B, '2025.07'));
});
