import { resolve } from 'node:path';
import { checkAll } from './rules.ts';

const faults = checkAll(resolve(import.meta.dirname, '../..'));
for (const fault of faults) process.stderr.write(`${fault}\n`);
process.stdout.write(faults.length === 0 ? 'check: the architecture holds\n' : `check: ${faults.length} faults\n`);
process.exitCode = faults.length === 0 ? 0 : 1;
