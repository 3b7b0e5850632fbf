import { checkAll, exitCodeOf, type ServerCheck } from '../ops/check/check.ts';
import type { Finding, Level } from '../ops/check/finding.ts';
import { defineVerb } from './verb.ts';

const MARKS: Record<Level, string> = { ok: 'ok  ', warn: 'WARN', fail: 'FAIL' };

export const check = defineVerb<{ readonly quiet: boolean }>({
  name: 'check',
  summary: 'looks at all three servers and says what is in the way, with the cure; changes nothing',
  writes: false,
  declare: (command) => command.option('--quiet', 'only warnings and failures'),
  read: (flags) => ({ quiet: flags['quiet'] === true }),
  async run({ config, out, log }, { quiet }) {
    const checks = await checkAll(config, log);
    for (const { server, findings } of checks) {
      const shown = findings.filter(({ level }) => !quiet || level !== 'ok');
      if (shown.length > 0) out.line(server);
      for (const finding of shown) for (const line of describe(finding)) out.line(line);
    }
    const answer = exitCodeOf(checks);
    out.line(summary(checks));
    out.result({ ok: answer === 0, servers: checks });
    return answer;
  },
});

function describe({ level, subject, message, cure }: Finding): string[] {
  return [`  ${MARKS[level]}  ${subject}: ${message}`, ...(cure === null ? [] : [`        → ${cure}`])];
}

function summary(checks: readonly ServerCheck[]): string {
  const all = checks.flatMap(({ findings }) => findings);
  const count = (level: Level): number => all.filter((finding) => finding.level === level).length;
  return `${count('fail')} in the way, ${count('warn')} to know, ${count('ok')} well`;
}
