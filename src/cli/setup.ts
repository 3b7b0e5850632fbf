import { requireEnabled } from '../config/config.ts';
import { printableSetup } from '../ops/setup/printable.ts';
import { runSetup } from '../ops/setup/setup.ts';
import { wholeNumber } from './flags.ts';
import { printSqlText, stepPrinter } from './steps.ts';
import { defineVerb } from './verb.ts';

interface SetupFlags {
  readonly printSql: boolean;
  readonly role: string | null;
  readonly lockWaitMs: number;
}

export const LOCK_WAIT_SECONDS = 600;

export const setup = defineVerb<SetupFlags>({
  name: 'setup',
  summary: 'prepares the three servers while Dify runs: identity indexes, publication, slot, topics, templates',
  // --print-sql writes nothing, so it is asked for below
  writes: false,
  declare: (command) =>
    command
      .option('--print-sql', 'print what a superuser can run instead, with the grants for a role with few rights')
      .option('--role <name>', 'with --print-sql: the role that this program will use')
      .option('--lock-wait <seconds>', `how long to try for each lock that shuts Dify out for a moment (default ${LOCK_WAIT_SECONDS})`),
  read(flags, faults) {
    const role = flags['role'] === undefined ? null : String(flags['role']);
    const printSql = flags['printSql'] === true;
    if (role !== null && !printSql) faults.push('--role goes with --print-sql');
    if (role !== null && (role.trim() === '' || Buffer.byteLength(role) > 63 || /\p{Cc}/u.test(role))) faults.push('--role is no name of a role (1 to 63 bytes on one line)');
    return { printSql, role, lockWaitMs: (wholeNumber(flags, faults, 'lockWait', '--lock-wait', 1, 86_400) ?? LOCK_WAIT_SECONDS) * 1000 };
  },
  async run({ config, out, log, signal }, { printSql, role, lockWaitMs }) {
    if (printSql) {
      printSqlText(out, log, await printableSetup(config, role));
      return 0;
    }
    requireEnabled(config);
    const { steps, report } = stepPrinter(out);
    const { required, epoch } = await runSetup(config, log, { lockWaitMs, signal, report, say: (line) => log.info(line) });
    if (required.length > 0) out.line(`BACKFILL REQUIRED: ${required.join(', ')}. Next: dify-es run (or stream and sink), and then dify-es migrate.`);
    out.result({ steps, backfillRequired: required, epoch });
    return 0;
  },
});
