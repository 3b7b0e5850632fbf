import { DEFAULT_CONSOLE_PORT, startConsole } from '../ops/console/console.ts';
import { wholeNumber } from './flags.ts';
import { untilStopped } from './until-stopped.ts';
import { defineVerb } from './verb.ts';

interface ConsoleFlags {
  readonly port: number | undefined;
}

export const console = defineVerb<ConsoleFlags>({
  name: 'console',
  summary: 'one page in a browser: the flow, what needs attention, tenants, and the runs themselves; until it is stopped',
  writes: false,
  declare: (command) => command.option('--port <n>', `instead of CONSOLE_PORT (or ${DEFAULT_CONSOLE_PORT})`),
  read: (flags, faults) => ({ port: wholeNumber(flags, faults, 'port', '--port', 1, 65_535) }),
  async run({ config, out, log, signal }, { port }) {
    const served = await startConsole(config, port ?? (config.program.consolePort || DEFAULT_CONSOLE_PORT), null, log);
    out.line(`${served.url}  (Ctrl-C ends it)`);
    out.result({ url: served.url });
    try {
      await untilStopped(signal, [], async () => {});
    } finally {
      await served.close();
    }
    return 0;
  },
});
