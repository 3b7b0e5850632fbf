import type { TestProject } from 'vitest/node';
import { serversFor, TIERS } from '../../scripts/test/tiers.ts';
import { startTestServers } from '../../scripts/test/servers.ts';

/**
 * For a direct `npx vitest run test/some.pg.test.ts`: starts the servers of its tier, unless DIFY_ES_TEST_ENV names the
 * env file of servers that run already, as it does below `npm test`. The test processes inherit the variable.
 */
export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  if (process.env['DIFY_ES_TEST_ENV'] !== undefined) return undefined;
  const tier = TIERS.find((one) => one === project.name);
  const servers = await startTestServers(serversFor(tier === undefined ? TIERS : [tier]));
  process.env['DIFY_ES_TEST_ENV'] = servers.envFile;
  return async () => {
    delete process.env['DIFY_ES_TEST_ENV'];
    await servers.stop();
  };
}
