import { closeSync, existsSync, fstatSync, openSync, readSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { LocalFault } from './fault.ts';
import type { ProcessMark } from './process.ts';
import { isAlive, markOf, signal, signalTree, waitForEnd } from './process.ts';
import type { ServerState } from './state.ts';
import { writeState } from './state.ts';

/** One server under control. Port and data folder stay the same through every stop, kill and start. */
export interface LocalServer {
  readonly host: string;
  readonly port: number;
  readonly url: string;
  readonly version: string;
  /** The folder of its configuration and data. */
  readonly home: string;
  readonly logFile: string;
  /** The variables by which the program finds it. */
  readonly env: Readonly<Record<string, string>>;
  /** 0 while it is stopped. */
  readonly pid: number;
  running(): boolean;
  /** Starts it again and returns when it answers; nothing happens when it runs. */
  start(): Promise<void>;
  /** The server's own clean shutdown; returns when the process has ended. */
  stop(): Promise<void>;
  /** SIGKILL to all its processes, as a crash of the machine would end them; returns when they are gone. */
  kill9(): Promise<void>;
  restart(): Promise<void>;
  /** SIGSTOP to all its processes: connections stay open and nothing answers. */
  pause(): void;
  resume(): void;
  /** Kills it and removes its data. */
  destroy(): Promise<void>;
}

export interface ServerPlan {
  readonly dir: string;
  readonly label: string;
  readonly state: Omit<ServerState, 'mark'>;
  /** SIGINT is PostgreSQL's fast shutdown; SIGTERM there waits for clients. */
  readonly stopSignal: NodeJS.Signals;
  /** Starts the process, which outlives us, and returns its pid. */
  launch(): Promise<number>;
  /** True when the server answers a request; false or an error while it does not yet. */
  answers(): Promise<boolean>;
  /** Folders and files to remove with it. */
  readonly remove: readonly string[];
}

/** Generous: three JVMs start on a machine that may be busy with much else. */
const READY_MS = 300_000;
const STOP_MS = 60_000;

/** The server of the plan; `mark` is its process when it runs already. */
export function controlServer(plan: ServerPlan, mark: ProcessMark | null): LocalServer {
  let current = mark;

  function remember(next: ProcessMark | null): void {
    current = next;
    writeState(plan.dir, { ...plan.state, mark: next });
  }

  const server: LocalServer = {
    host: plan.state.host,
    port: plan.state.port,
    url: plan.state.url,
    version: plan.state.version,
    home: plan.state.home,
    logFile: plan.state.logFile,
    env: plan.state.env,
    get pid() {
      return current?.pid ?? 0;
    },
    running: () => current !== null && isAlive(current),
    async start() {
      if (server.running()) return;
      const started = markOf(await plan.launch());
      if (!started) throw endedEarly(plan);
      // Before it answers, so that `down` finds it also when we are ended while waiting.
      remember(started);
      await waitUntilItAnswers(plan, started);
    },
    async stop() {
      if (current && signal(current, plan.stopSignal)) {
        // A paused process gets no signal but these.
        signalTree(current, 'SIGCONT');
        if (!(await waitForEnd([current], STOP_MS))) await server.kill9();
      }
      remember(null);
    },
    async kill9() {
      if (current) await waitForEnd(signalTree(current, 'SIGKILL'), STOP_MS);
      remember(null);
    },
    async restart() {
      await server.stop();
      await server.start();
    },
    pause: () => void (current && signalTree(current, 'SIGSTOP')),
    resume: () => void (current && signalTree(current, 'SIGCONT')),
    async destroy() {
      await server.kill9();
      for (const path of plan.remove) rmSync(path, { recursive: true, force: true });
    },
  };
  return server;
}

async function waitUntilItAnswers(plan: ServerPlan, mark: ProcessMark): Promise<void> {
  const deadline = Date.now() + READY_MS;
  while (!(await plan.answers().catch(() => false))) {
    if (!isAlive(mark)) throw endedEarly(plan);
    if (Date.now() > deadline) throw new LocalFault(`${plan.label} did not answer on port ${plan.state.port} within ${READY_MS / 1000} s: see ${plan.state.logFile}`);
    await sleep(100);
  }
}

export function endedEarly(plan: Pick<ServerPlan, 'label' | 'state'>): LocalFault {
  const lines = tail(plan.state.logFile).split('\n').filter((line) => line.trim() !== '');
  const telling = lines.findLast((line) => /FATAL|PANIC|ERROR|Exception|error/.test(line)) ?? lines.at(-1) ?? 'it said nothing';
  return new LocalFault(`${plan.label} ended while starting: ${telling.trim().slice(0, 300)} (log: ${plan.state.logFile})`);
}

function tail(file: string): string {
  if (!existsSync(file)) return '';
  const fd = openSync(file, 'r');
  try {
    const { size } = fstatSync(fd);
    const bytes = Buffer.alloc(Math.min(size, 8192));
    readSync(fd, bytes, 0, bytes.length, size - bytes.length);
    return bytes.toString('utf8');
  } finally {
    closeSync(fd);
  }
}

/** What each of the three start functions takes. */
export interface ServerOptions {
  /** The instance's folder; without it a new one in the temporary directory, removed by `destroy`. */
  readonly dir?: string;
  /** Without it the port of the last time when it is free, else any free one. */
  readonly port?: number;
  readonly version?: string;
  /** Further lines of the server's own configuration; they win over ours. */
  readonly settings?: Readonly<Record<string, string>>;
  /** TLS and passwords. */
  readonly secure?: boolean;
  /**
   * Java compiles quickly rather than well: Elasticsearch is up after half the processor time (6.8 s instead of 13.2 s,
   * measured), and slower under lasting load. For tests, not for measuring.
   */
  readonly shortLived?: boolean;
}

/** What `shortLived` means to a Java server. */
export const SHORT_LIVED = '-XX:TieredStopAtLevel=1';
