import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { pino } from 'pino';
import { loadConfig, readEnvironment } from '../../src/config/config.ts';
import { drain } from '../../src/ops/drain.ts';
import { inspectSlot } from '../../src/pipeline/capture/slot.ts';
import { openGroupLag, type Ends } from '../../src/pipeline/kafka/group-lag.ts';
import { topicNames, withAdmin } from '../../src/pipeline/kafka/topics.ts';
import { openElastic, openKafka } from '../../src/run/connections.ts';
import { startLiveWriter, type LiveWriter, type LiveWriterOptions } from './dify/live-writer.ts';
import { runOracle, type OracleOptions, type OracleReport } from './oracle/oracle.ts';
import { settingsFrom } from './oracle/settings.ts';
import { PATIENCE_MS, Program, type StartOptions } from './program.ts';

export type Env = Readonly<Record<string, string>>;

/** A long run starts thousands; the report of a failure shows the last ones. */
const KEPT_ENDED = 6;

/** Ready for work: what the long-running verbs say when they are. */
export const READY: Readonly<Record<string, readonly string[]>> = {
  stream: ['reading the log'],
  sink: ['joined the consumer group'],
  run: ['joined the consumer group', 'reading the log'],
};

/**
 * The verbs of the program against one set of servers, in one place: start, kill, wait until drained, compare by the
 * oracle. What waits uses the program's own drain; a drain that returned too early would show as a difference.
 */
export class Pipeline {
  readonly env: Env;
  #started: readonly Program[] = [];

  constructor(env: Env) {
    this.env = env;
  }

  /** Starts a verb that runs until it is stopped; returns at once. */
  spawn(args: readonly string[], options: StartOptions = {}): Program {
    const program = new Program(this.env, args, options);
    this.#started = [...this.#started.filter((one) => one.isRunning()), ...this.#started.filter((one) => !one.isRunning()).slice(-KEPT_ENDED), program];
    return program;
  }

  /** Starts `stream`, `sink` or `run` and waits until it works. */
  async start(verb: 'stream' | 'sink' | 'run', options: StartOptions = {}): Promise<Program> {
    const program = this.spawn([verb], options);
    for (const line of READY[verb] ?? []) await program.said(line);
    return program;
  }

  /** Runs a verb to its end. Throws with its last lines when it ends otherwise than expected. */
  async verb(args: readonly string[], expectedCode = 0, env: Env = {}): Promise<string> {
    const program = this.spawn(args, { env });
    const { code } = await program.ended;
    if (code !== expectedCode) throw new Error(`expected exit code ${expectedCode}\n${program.describe()}`);
    return program.stdout;
  }

  connect = async (): Promise<pg.Client> => {
    const client = new pg.Client({ ...settingsFrom(this.env).pg, application_name: 'dify' });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  };

  write(options: Omit<LiveWriterOptions, 'connect'>): LiveWriter {
    return startLiveWriter({ connect: this.connect, nodesPerRun: 2, rowSize: 1800, connections: 2, ...options });
  }

  /** Returns when all that is visible now is settled in Elasticsearch. */
  async drained({ stallMs = 60_000, unattendedMs = 40_000 } = {}): Promise<void> {
    const config = loadConfig(readEnvironment(this.env));
    const kafka = openKafka(config, pino({ level: 'silent' }));
    const lag = await openGroupLag(kafka, topicNames(config.kafka.topicPrefix), config.kafka.group);
    const db = await this.connect();
    try {
      await drain<Ends>({
        db,
        slot: () => inspectSlot(db, config.postgres.slot),
        group: {
          ends: () => lag.endOffsets(),
          left: async (ends) => ((await lag.isDrainedTo(ends)) ? 0n : (await lag.lag()).reduce((sum, { behind }) => sum + behind, 1n)),
          members: async () => (await withAdmin(kafka, 'look at the group', (admin) => admin.describeGroups([config.kafka.group]))).groups[0]?.members.length ?? 0,
        },
      }, { stallMs, unattendedMs, signal: new AbortController().signal });
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${this.describe()}`, { cause: error });
    } finally {
      await Promise.allSettled([lag.close(), db.end()]);
    }
  }

  oracle(options: Partial<OracleOptions> = {}): Promise<OracleReport> {
    return runOracle({ ...settingsFrom(this.env), list: 8, ...options });
  }

  /** Drained, and then every row has its document and every document its row. Returns the number of equal pairs. */
  async equal(options: Partial<OracleOptions> = {}): Promise<number> {
    await this.drained();
    const report = await this.oracle(options);
    if (!report.equal) {
      const lines = report.differences.map(({ kind, table, id, index, fields, example }) => `${kind}: ${table} ${id} in ${index} ${fields?.join(', ') ?? ''} ${example ?? ''}`);
      throw new Error(`PostgreSQL and Elasticsearch differ: ${JSON.stringify(report.tables)} ${report.unknownIndices.join(' ')}\n${lines.join('\n')}\n${this.describe()}`);
    }
    const pairs = Object.values(report.tables).reduce((sum, { equal }) => sum + equal, 0);
    if (pairs === 0) throw new Error('the oracle had nothing to compare');
    return pairs;
  }

  /** Drained, and nothing is missing or stale: all that may differ are documents whose rows are gone. Returns their number. */
  async nothingMissing(): Promise<number> {
    await this.drained();
    const { tables, differences } = await this.oracle();
    const counts = Object.values(tables);
    const sum = (of: 'equal' | 'missing' | 'different' | 'wrongIndex' | 'extra'): number => counts.reduce((total, count) => total + count[of], 0);
    if (sum('equal') === 0) throw new Error('the oracle had nothing to compare');
    if (sum('missing') + sum('different') + sum('wrongIndex') > 0) throw new Error(`more than documents of no row: ${JSON.stringify(tables)} ${JSON.stringify(differences)}\n${this.describe()}`);
    return sum('extra');
  }

  /**
   * Elasticsearch holds nothing, and Kafka's group has nothing left that would fill it: what is there afterwards was
   * written afterwards. Nobody may write to PostgreSQL meanwhile.
   */
  async emptied(): Promise<void> {
    await this.drained();
    await this.#dropIndices();
  }

  async #dropIndices(): Promise<void> {
    const config = loadConfig(readEnvironment(this.env));
    const client = openElastic(config);
    try {
      const indices = Object.keys(await client.indices.get({ index: `${config.elasticsearch.indexPrefix}-workflow-*` }));
      if (indices.length === 0) throw new Error('there is no index to drop');
      // By their names a few at a time: they are one line of HTTP.
      for (let at = 0; at < indices.length; at += 20) await client.indices.delete({ index: indices.slice(at, at + 20) });
    } finally {
      await client.close();
    }
  }

  /**
   * What a record that landed behind a newer one would break: all indices are dropped, a group of its own reads the
   * topics from their beginning, and both ends are equal again. No sink may run meanwhile.
   */
  async replayedEqual(): Promise<void> {
    await this.#dropIndices();
    const replay = new Pipeline({ ...this.env, KAFKA_CONSUMER_GROUP: `${this.env['KAFKA_CONSUMER_GROUP']}-replay` });
    const sink = await replay.start('sink');
    try {
      await replay.equal();
    } finally {
      await sink.stop();
    }
  }

  /** What `status` says is recorded: the requirements, and how many runs of the backfill are open. */
  async recorded(): Promise<{ readonly required: readonly { readonly table: string; readonly reason: string }[]; readonly openRuns: number }> {
    const program = this.spawn(['status', '--json']);
    await program.ended;
    // Another part may be unknown for a moment, which is exit code 3.
    const state = (JSON.parse(program.stdout) as { state: { ok: boolean; value: { required: { table: string; reason: string }[]; runs: { state: string }[] } } }).state;
    if (!state.ok) throw new Error(`the recorded state could not be read\n${program.describe()}`);
    const { required, runs } = state.value;
    return { required, openRuns: runs.filter(({ state }) => state === 'open').length };
  }

  describe(): string {
    return this.#started.map((program) => program.describe(12)).join('\n');
  }

  /** SIGKILL to all that still runs. For the end of a test file. */
  async killAll(): Promise<void> {
    await Promise.all(this.#started.filter((program) => program.isRunning()).map((program) => program.kill9()));
  }
}

/** Polls a question until it is answered with yes. For what no signal tells. */
export async function until(what: string, question: () => Promise<boolean> | boolean, timeoutMs = PATIENCE_MS): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await question())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs / 1000} s: ${what}`);
    await sleep(50);
  }
}
