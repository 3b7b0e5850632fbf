import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { importCycles } from '../../../scripts/check/cycles.ts';
import { importFaults, importsOf } from '../../../scripts/check/imports.ts';
import { deadPaths } from '../../../scripts/check/paths.ts';
import { checkAll, isLostTest } from '../../../scripts/check/rules.ts';

it('the architecture of this checkout holds', () => {
  expect(checkAll(resolve(import.meta.dirname, '../../..'))).toEqual([]);
});

describe('import directions', () => {
  const faultsOf = (path: string, text: string): number => importFaults([{ path, text }]).length;

  it('let a stage import core, connector and its own folder', () => {
    expect(faultsOf('src/pipeline/sink/bulk.ts', `import type { Lsn } from '../../core/lsn.ts';\nimport { a } from './outcomes.ts';\nimport { b } from '../../connector/registry.ts';`)).toBe(0);
  });

  it('refuse another stage, configuration and code above', () => {
    expect(faultsOf('src/pipeline/sink/bulk.ts', `import { a } from '../kafka/topics.ts';`)).toBe(1);
    expect(faultsOf('src/pipeline/sink/bulk.ts', `export { a } from '../../config/config.ts';`)).toBe(1);
    expect(faultsOf('src/run/stream.ts', `import { a } from '../ops/status.ts';`)).toBe(1);
    expect(faultsOf('src/ops/watch/wal-budget.ts', `import { a } from '../../run/stream.ts';`)).toBe(1);
    expect(faultsOf('src/run/stream.ts', `const a = await import('../cli/main.ts');`)).toBe(1);
    expect(faultsOf('src/cli/main.ts', `import { a } from '../../test/support/servers.ts';`)).toBe(1);
  });

  it('let core import nothing of the project and a connector only src/connector', () => {
    expect(faultsOf('src/core/state.ts', `import './lsn.ts';`)).toBe(0);
    expect(faultsOf('src/core/state.ts', `import '../connector/registry.ts';`)).toBe(1);
    expect(faultsOf('connectors/workflow-runs.ts', `import { a } from '../src/connector/definition.ts';`)).toBe(0);
    expect(faultsOf('connectors/workflow-runs.ts', `import { a } from '../src/core/lsn.ts';`)).toBe(1);
  });

  it('keep each client library in its stage', () => {
    expect(faultsOf('src/pipeline/kafka/producer.ts', `import kafkajs from 'kafkajs';`)).toBe(0);
    expect(faultsOf('src/pipeline/sink/bulk.ts', `import kafkajs from 'kafkajs';`)).toBe(1);
    expect(faultsOf('src/ops/status.ts', `import pg from 'pg';`)).toBe(0);
    expect(faultsOf('src/pipeline/decode/relation.ts', `import type { Client } from 'pg';`)).toBe(1);
  });

  it('are read from every form of import and not from comments', () => {
    const text = `// import './a.ts'\n/* import './b.ts' */\nimport {\n  c,\n} from './c.ts';\nimport './d.ts';\nexport * from "./e.ts";\nawait import('./f.ts');`;
    expect(importsOf(text)).toEqual(['./c.ts', './d.ts', './e.ts', './f.ts']);
  });
});

it('a circle of imports is found once, with its files', () => {
  const file = (path: string, ...to: string[]): { path: string; text: string } => ({ path, text: to.map((one) => `import '${one}';`).join('\n') });
  expect(importCycles([file('src/a.ts', './b.ts', './d.ts'), file('src/b.ts', './c/c.ts'), file('src/c/c.ts', '../a.ts'), file('src/d.ts', './b.ts')])).toEqual(['imports go in a circle: src/a.ts → src/b.ts → src/c/c.ts → src/a.ts']);
  expect(importCycles([file('src/a.ts', './b.ts', './c.ts'), file('src/b.ts', './c.ts'), file('src/c.ts')])).toEqual([]);
});

describe('paths in documents', () => {
  const dead = (text: string): readonly string[] => deadPaths([{ path: 'docs/01.md', text }], (path) => ['src/core/lsn.ts', 'connectors', 'docs/02.md'].includes(path));

  it('may name files, folders of patterns and relative links that exist', () => {
    expect(dead('See `src/core/lsn.ts`, connectors/<table>.ts and [next](02.md#part). Or https://a.example/src/other.ts.')).toEqual([]);
  });

  it('are reported when they do not exist', () => {
    expect(dead('See src/core/gone.ts and [next](03.md).')).toEqual(['docs/01.md names src/core/gone.ts, which does not exist', 'docs/01.md names docs/03.md, which does not exist']);
  });
});

it('a test that no tier runs is found', () => {
  expect(['test/a.spec.ts', 'src/a.test.ts', 'test/a.pgsql.test.ts'].map(isLostTest)).toEqual([true, true, true]);
  expect(['test/a.test.ts', 'test/a.pg.test.ts', 'src/core/latest.ts', 'scripts/test.ts'].map(isLostTest)).toEqual([false, false, false, false]);
});
