import { withTelemetry } from '../ops/telemetry/telemetry.ts';
import { handleTruncate } from '../ops/truncate/handle-truncate.ts';
import { openPlatform } from '../run/platform.ts';
import { startSink } from '../run/sink.ts';
import { startStream } from '../run/stream.ts';
import { untilStopped } from './until-stopped.ts';
import { defineVerb } from './verb.ts';

export const run = defineVerb({
  name: 'run',
  summary: 'stream and sink in one process, until it is stopped',
  writes: true,
  declare: () => {},
  read: () => ({}),
  async run({ config, log, signal }) {
    const platform = await openPlatform(config, log);
    try {
      await withTelemetry(config, log, ['stream', 'sink'], async (telemetry) => {
        telemetry.follow(platform);
        const member = await startSink(config, platform, log, telemetry.onBatch, telemetry.sink);
        telemetry.working('sink');
        const reader = await startStream(config, platform, log, { onTruncate: handleTruncate, ...telemetry.stream }).catch(async (error: unknown) => {
          await member.stop();
          throw error;
        });
        await untilStopped(signal, [member.failed, reader.done], async () => {
          await Promise.all([reader.stop(), member.stop()]);
        });
      });
      return 0;
    } finally {
      await platform.close();
    }
  },
});
