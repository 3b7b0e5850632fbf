import { handleTruncate } from '../ops/truncate/handle-truncate.ts';
import { startSink } from '../run/sink.ts';
import { startStream } from '../run/stream.ts';
import { longRunning } from './long-running.ts';
import { untilStopped } from './until-stopped.ts';
import { defineVerb } from './verb.ts';

export const run = defineVerb({
  name: 'run',
  summary: 'stream and sink in one process, until it is stopped',
  writes: true,
  declare: () => {},
  read: () => ({}),
  run: (context) =>
    longRunning(context, ['stream', 'sink'], async (platform, telemetry) => {
      const { config, log, signal } = context;
      const member = await startSink(config, platform, log, telemetry.onBatch, telemetry.sink);
      telemetry.working('sink');
      const reader = await startStream(config, platform, log, { onTruncate: handleTruncate, ...telemetry.stream }).catch(async (error: unknown) => {
        await member.stop();
        throw error;
      });
      await untilStopped(signal, [member.failed, reader.done], async () => {
        await Promise.all([reader.stop(), member.stop()]);
      });
    }),
});
