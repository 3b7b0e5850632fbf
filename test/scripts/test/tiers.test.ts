import { describe, expect, it } from 'vitest';
import { select, serversFor, tierOf } from '../../../scripts/test/tiers.ts';

const FILES = ['test/core/lsn.test.ts', 'test/pipeline/sink/bulk.es.test.ts', 'test/pipeline/kafka/topics.kafka.test.ts', 'test/oracle.e2e.test.ts'];

describe('the tier of a test file', () => {
  it('is its suffix, and pure without one', () => {
    expect(FILES.map(tierOf)).toEqual(['pure', 'es', 'kafka', 'e2e']);
  });

  it('does not exist for an unknown suffix or for a file that is no test', () => {
    expect(['test/a.mysql.test.ts', 'test/a.pure.test.ts', 'test/support/servers.ts'].map(tierOf)).toEqual([undefined, undefined, undefined]);
  });
});

describe('the selection of npm test', () => {
  it('takes every tier that has files, cheapest first', () => {
    expect(select([], FILES)).toEqual({ tiers: ['pure', 'kafka', 'es', 'e2e'], forwarded: [] });
  });

  it('narrows by tier and hands all else to vitest', () => {
    expect(select(['--tier', 'es,pure', '-t', 'some name'], FILES)).toEqual({ tiers: ['pure', 'es'], forwarded: ['-t', 'some name'] });
  });

  it('narrows by a part of a file path, with or without ./ in front', () => {
    expect(select(['./test/pipeline/sink'], FILES).tiers).toEqual(['es']);
    expect(select(['bulk', 'lsn'], FILES).tiers).toEqual(['pure', 'es']);
  });

  it('finds nothing for a file that does not exist', () => {
    expect(select(['nowhere'], FILES).tiers).toEqual([]);
  });

  it('refuses a tier that does not exist', () => {
    expect(() => select(['--tier=integration'], FILES)).toThrow(RangeError);
  });

  it('starts each needed server once', () => {
    expect(serversFor(['pure'])).toEqual([]);
    expect(serversFor(['pg', 'es', 'e2e'])).toEqual(['pg', 'es', 'kafka']);
  });
});
