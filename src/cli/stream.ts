import { handleTruncate } from '../ops/truncate/handle-truncate.ts';
import { startStream } from '../run/stream.ts';
import { longRunning } from './long-running.ts';
import { untilStopped } from './until-stopped.ts';
import { defineVerb } from './verb.ts';

export const stream = defineVerb({
  name: 'stream',
  summary: 'the reader: publishes the changes of the four tables to Kafka, until it is stopped',
  writes: true,
  declare: () => {},
  read: () => ({}),
  run: (context) =>
    longRunning(context, ['stream'], async (platform, telemetry) => {
      const { config, log, signal } = context;
      const reader = await startStream(config, platform, log, { onTruncate: handleTruncate, ...telemetry.stream });
      await untilStopped(signal, [reader.done], () => reader.stop());
    }),
});
