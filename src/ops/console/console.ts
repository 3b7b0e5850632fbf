import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import type { Health } from '../telemetry/health.ts';
import { Live } from './live.ts';
import { serveConsole } from './server.ts';
import { Watch } from './watch.ts';

export interface Console {
  readonly url: string;
  close(): Promise<void>;
}

/** Of `dify-es console` where CONSOLE_PORT names none. */
export const DEFAULT_CONSOLE_PORT = 9465;

/**
 * The page, served until it is closed. Servers that are away are shown and waited for, so it always starts, but for an
 * address that cannot be had (CONFIG_INVALID). `health`: of the other parts of this process, where there are any.
 */
export async function startConsole(config: Config, port: number, health: Health | null, log: Logger): Promise<Console> {
  const stopping = new AbortController();
  const watch = new Watch(config, log, health, () => live.changed());
  const live = new Live((name) => watch.section(name));
  const { consoleHost: host, consoleToken: token } = config.program;
  try {
    const server = await serveConsole({ host, port, token, live, client: watch.client, indexPrefix: config.elasticsearch.indexPrefix, log });
    const watching = watch.run(live, stopping.signal);
    log.info({ url: server.url }, 'serving the console');
    return {
      url: server.url,
      async close() {
        stopping.abort();
        live.close();
        await server.close();
        await Promise.race([watching.then(() => watch.close()), new Promise((resolve) => setTimeout(resolve, CLOSE_WAIT_MS).unref())]);
      },
    };
  } catch (error) {
    live.close();
    await watch.close();
    throw error;
  }
}

/** A look at a server that is away may take longer than anybody waits for the end of a process. */
const CLOSE_WAIT_MS = 3_000;
