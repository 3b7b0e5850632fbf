import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { LocalFault } from './fault.ts';

/*
 * Below the range from which Linux (32768) and macOS (49152) take the ports of outgoing connections. A server that is
 * killed and started again on a port of that range can find it taken by any client of the machine, even by its own
 * client, which then has connected to itself.
 */
const LOWEST = 20_000;
const HIGHEST = 32_000;

/** True when nothing listens on 127.0.0.1:port now. */
export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}

/** A free port chosen at random, so that instances that start at the same moment rarely choose the same. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = randomInt(LOWEST, HIGHEST);
    if (await isFree(port)) return port;
  }
  throw new LocalFault(`no free port found between ${LOWEST} and ${HIGHEST}: give one with --pg-port, --kafka-port or --es-port`);
}

/** The port asked for, or else the one used last time when it is still free, or else any free one. */
export async function choosePort(label: string, flag: string, asked: number | undefined, last: number | undefined): Promise<number> {
  if (asked !== undefined) {
    if (await isFree(asked)) return asked;
    throw new LocalFault(`port ${asked} for ${label} is taken: stop what listens there, or give another with ${flag}`);
  }
  return last !== undefined && (await isFree(last)) ? last : freePort();
}
