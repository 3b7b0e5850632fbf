import { withTelemetry, type Telemetry } from '../ops/telemetry/telemetry.ts';
import { openPlatform, type Platform } from '../run/platform.ts';
import type { Answer, VerbContext } from './verb.ts';

/**
 * What stream, sink and run share: the platform and the telemetry are open while `body` runs, and closed however it
 * ends. `parts` are those whose readiness `/readyz` waits for.
 */
export async function longRunning({ config, log, out }: VerbContext, parts: Parameters<typeof withTelemetry>[2], body: (platform: Platform, telemetry: Telemetry) => Promise<void>): Promise<Answer> {
  const platform = await openPlatform(config, log);
  try {
    await withTelemetry(config, log, parts, async (telemetry) => {
      telemetry.follow(platform);
      await body(platform, telemetry);
    });
    out.result({ stopped: true });
    return 0;
  } finally {
    await platform.close();
  }
}
