import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { namesFor } from '../../test/support/servers.ts';
import { readEnvFile } from '../local/env-file.ts';
import { describeMeasured, measureRedrive } from './measure.ts';

const USAGE = `usage: npm run test:redrive -- --env FILE [-- options]

  Fills the dead-letter topic, sends every letter again by \`dify-es dlq redrive\`, and fails unless every document is
  there and the process stayed below 512 MB (the kernel's own high-water mark).

  --env FILE     of the servers to use, as \`npm run local -- up\` writes it (default .local/env)
  --letters N    default 200000
  --bytes N      of each row's value (default 2000)`;

/** Memory is bounded by configuration, not by the size of a redrive. */
const LIMIT_MB = 512;

const { values } = parseArgs({
  options: { env: { type: 'string', default: '.local/env' }, letters: { type: 'string', default: '200000' }, bytes: { type: 'string', default: '2000' }, help: { type: 'boolean', short: 'h', default: false } },
});

if (values.help) process.stdout.write(`${USAGE}\n`);
else {
  const here = namesFor('redrive.e2e.test.ts', randomBytes(3).toString('hex'), readEnvFile(values.env));
  const measured = await measureRedrive(here, { letters: Number(values.letters), bytes: Number(values.bytes), say: (line) => void process.stdout.write(`${line}\n`) });
  const faults = [
    ...(measured.highWaterMb < LIMIT_MB ? [] : [`${measured.highWaterMb} MB is not below ${LIMIT_MB} MB`]),
    ...(measured.documents === measured.letters ? [] : [`${measured.documents} documents of ${measured.letters} letters`]),
    ...(measured.open === 0 ? [] : [`${measured.open} letters are still open`]),
  ];
  process.stdout.write(`${describeMeasured(measured)}\n${faults.length === 0 ? 'passed' : `FAILED: ${faults.join('; ')}`}\n`);
  process.exit(faults.length === 0 ? 0 : 1);
}
