import { errors, type Client } from '@elastic/elasticsearch';
import { expect, it } from 'vitest';
import { Documents } from '../../../src/ops/validate/documents.ts';

it('a scan whose point in time the server has forgotten ends with a code, not as a fault of this program', async () => {
  const answer = (statusCode: number, body: object) => ({ statusCode, body: (async function* () { yield Buffer.from(JSON.stringify(body)); })(), headers: {}, warnings: null, meta: {} });
  const transport = {
    request: ({ path }: { path: string }) => Promise.resolve(path === '/_search' ? answer(404, { error: { type: 'search_phase_execution_exception' } }) : answer(200, { id: 'pit' })),
  };
  const documents = new Documents({ transport } as unknown as Client, 'dify', new AbortController().signal);
  const scan = async (): Promise<void> => {
    for await (const page of documents.scan('dify-workflow-runs-x')) void page;
  };
  await expect(scan()).rejects.not.toBeInstanceOf(errors.ResponseError);
  await expect(scan()).rejects.toMatchObject({ code: 'ES_UNREACHABLE' });
});
