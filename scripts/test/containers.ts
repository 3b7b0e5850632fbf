import { join } from 'node:path';
import { DockerComposeEnvironment, Wait } from 'testcontainers';
import { everyVariable, writeEnvFile } from '../local/env-file.ts';
import { CHECKOUT } from '../local/maven.ts';
import { freePort } from '../local/ports.ts';

const ROLE = { DB_USERNAME: 'postgres', DB_PASSWORD: 'difyai123456', DB_DATABASE: 'dify' };

/** The three servers of docker-compose.yml as containers, on free ports of this machine; needs a Docker engine. */
export async function startContainers(dir: string): Promise<{ readonly envFile: string; stop(): Promise<void> }> {
  // Chosen before the start: Kafka tells its clients the port by which they reach it.
  const [pgPort, kafkaPort, esPort] = [await freePort(), await freePort(), await freePort()];
  const environment = await new DockerComposeEnvironment(CHECKOUT, 'docker-compose.yml')
    // Compose would take the others from a .env beside its file.
    .withEnvironment({ ...ROLE, DB_PORT: String(pgPort), KAFKA_PORT: String(kafkaPort), ELASTICSEARCH_PORT: String(esPort) })
    .withDefaultWaitStrategy(Wait.forHealthCheck())
    .withStartupTimeout(300_000)
    .up(['postgres', 'kafka', 'elasticsearch']);
  const envFile = join(dir, 'env');
  writeEnvFile(envFile, everyVariable({
    DB_HOST: '127.0.0.1', DB_PORT: String(pgPort), ...ROLE,
    KAFKA_BROKERS: `127.0.0.1:${kafkaPort}`,
    ELASTICSEARCH_ENABLED: 'true', ELASTICSEARCH_HOSTS: JSON.stringify([`http://127.0.0.1:${esPort}`]),
  }));
  return { envFile, stop: async () => void (await environment.down({ removeVolumes: true })) };
}
