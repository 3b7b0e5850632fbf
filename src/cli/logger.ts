import { pino, type Logger } from 'pino';
import { PinoPretty } from 'pino-pretty';

/** JSON lines on standard error; on a terminal the same lines made readable. Standard output belongs to the answer. */
export function createLogger(level: string, verb: string): Logger {
  const options = { level, base: { verb, pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime };
  if (!process.stderr.isTTY) return pino(options, pino.destination({ dest: 2, sync: true }));
  return pino(options, PinoPretty({ destination: 2, sync: true, ignore: 'pid,verb', translateTime: 'HH:MM:ss', singleLine: true }));
}
