import { withTelemetry } from '../ops/telemetry/telemetry.ts';
import { openPlatform } from '../run/platform.ts';
import { startSink } from '../run/sink.ts';
import { untilStopped } from './until-stopped.ts';
import { defineVerb } from './verb.ts';

export const sink = defineVerb({
  name: 'sink',
  summary: 'a member of the consumer group: writes documents, until it is stopped; several may run',
  writes: true,
  declare: () => {},
  read: () => ({}),
  async run({ config, log, signal }) {
    const platform = await openPlatform(config, log);
    try {
      await withTelemetry(config, log, ['sink'], async (telemetry) => {
        telemetry.follow(platform);
        const member = await startSink(config, platform, log, telemetry.onBatch, telemetry.sink);
        telemetry.working('sink');
        await untilStopped(signal, [member.failed], () => member.stop());
      });
      return 0;
    } finally {
      await platform.close();
    }
  },
});
