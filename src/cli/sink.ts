import { startSink } from '../run/sink.ts';
import { longRunning } from './long-running.ts';
import { untilStopped } from './until-stopped.ts';
import { defineVerb } from './verb.ts';

export const sink = defineVerb({
  name: 'sink',
  summary: 'a member of the consumer group: writes documents, until it is stopped; several may run',
  writes: true,
  declare: () => {},
  read: () => ({}),
  run: (context) =>
    longRunning(context, ['sink'], async (platform, telemetry) => {
      const { config, log, signal } = context;
      const member = await startSink(config, platform, log, telemetry.onBatch, telemetry.sink);
      telemetry.working('sink');
      await untilStopped(signal, [member.failed], () => member.stop());
    }),
});
