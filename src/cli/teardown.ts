import { requireEnabled } from '../config/config.ts';
import { printableTeardown } from '../ops/teardown/printable.ts';
import { runTeardown } from '../ops/teardown/teardown.ts';
import { wholeNumber } from './flags.ts';
import { LOCK_WAIT_SECONDS } from './setup.ts';
import { printSqlText, stepPrinter } from './steps.ts';
import { defineVerb } from './verb.ts';

interface TeardownFlags {
  readonly printSql: boolean;
  readonly keepData: boolean;
  readonly lockWaitMs: number;
}

export const teardown = defineVerb<TeardownFlags>({
  name: 'teardown',
  summary: 'the way out: takes back what setup made, in the order that never stops Dify; documents always stay',
  writes: false,
  declare: (command) =>
    command
      .option('--print-sql', 'print what the tables\' owner can run instead')
      .option('--keep-data', 'keep the topics, the consumer group and the templates')
      .option('--lock-wait <seconds>', `how long to try for each lock that shuts Dify out for a moment (default ${LOCK_WAIT_SECONDS})`),
  read: (flags, faults) => ({
    printSql: flags['printSql'] === true,
    keepData: flags['keepData'] === true,
    lockWaitMs: (wholeNumber(flags, faults, 'lockWait', '--lock-wait', 1, 86_400) ?? LOCK_WAIT_SECONDS) * 1000,
  }),
  async run({ config, out, log, signal }, { printSql, keepData, lockWaitMs }) {
    if (printSql) {
      printSqlText(out, log, await printableTeardown(config));
      return 0;
    }
    requireEnabled(config);
    const { steps, report } = stepPrinter(out);
    await runTeardown(config, log, { lockWaitMs, keepData, signal, report, say: (line) => log.info(line) });
    out.line(`The documents stay, in the indices ${config.elasticsearch.indexPrefix}-workflow-*, and with them ${config.elasticsearch.indexPrefix}-cdc-state, which a later setup needs to know their versions.`);
    out.result({ steps });
    return 0;
  },
});
