import { withTelemetry } from '../ops/telemetry/telemetry.ts';
import { handleTruncate } from '../ops/truncate/handle-truncate.ts';
import { openPlatform } from '../run/platform.ts';
import { startStream } from '../run/stream.ts';
import { untilStopped } from './until-stopped.ts';
import { defineVerb } from './verb.ts';

export const stream = defineVerb({
  name: 'stream',
  summary: 'the reader: publishes every change of the four tables to Kafka, until it is stopped',
  writes: true,
  declare: () => {},
  read: () => ({}),
  async run({ config, log, signal }) {
    const platform = await openPlatform(config, log);
    try {
      await withTelemetry(config, log, ['stream'], async (telemetry) => {
        telemetry.follow(platform);
        const reader = await startStream(config, platform, log, { onTruncate: handleTruncate, ...telemetry.stream });
        await untilStopped(signal, [reader.done], () => reader.stop());
      });
      return 0;
    } finally {
      await platform.close();
    }
  },
});
