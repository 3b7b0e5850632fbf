import { readFileSync, readdirSync } from 'node:fs';

/** CPU in seconds, user and system; memory as the kernel's high-water mark since the process began. */
export interface Usage {
  readonly cpuSeconds: number;
  readonly highWaterMb: number;
}

/** What each process used, by name. Several processes of one name are added up in CPU; of memory the largest counts. */
export type Usages = Readonly<Record<string, Usage>>;

/** USER_HZ: the unit of /proc/PID/stat, 100 on every Linux that Node runs on (proc(5), time(7)). */
const TICKS = 100;
/** A process that ends takes its figures with it, so the last look counts: at most so much is missed. */
const LOOK_MS = 50;

interface Watched {
  readonly name: string;
  readonly pid: number;
  readonly tree: boolean;
  readonly before: number;
  usage: Usage;
}

/** Counts from now until `stop`. */
export class Meter {
  readonly #watched: Watched[] = [];
  readonly #timer = setInterval(() => this.#look(false), LOOK_MS);
  readonly #own = process.cpuUsage();

  /** A server with all its processes: PostgreSQL has one for each connection. */
  server(name: string, pid: number): void {
    this.#watched.push({ name, pid, tree: true, before: treeCpu(pid), usage: { cpuSeconds: 0, highWaterMb: 0 } });
  }

  /** One of ours. `fresh`: it began just now, so all that it has used counts. */
  program(name: string, pid: number, fresh = false): void {
    this.#watched.push({ name, pid, tree: false, before: fresh ? 0 : (ownCpu(pid)?.own ?? 0), usage: { cpuSeconds: 0, highWaterMb: 0 } });
  }

  stop(): Usages {
    clearInterval(this.#timer);
    this.#look(true);
    const { user, system } = process.cpuUsage(this.#own);
    const all: Record<string, Usage> = { bench: { cpuSeconds: (user + system) / 1e6, highWaterMb: highWater(process.pid) } };
    for (const { name, usage } of this.#watched) all[name] = sum(all[name], usage);
    return all;
  }

  /** Of a server the whole tree is read, which takes milliseconds: at the end alone. */
  #look(last: boolean): void {
    for (const one of this.#watched) {
      if (one.tree && !last) continue;
      const now = one.tree ? treeCpu(one.pid) : ownCpu(one.pid)?.own;
      if (now === undefined) continue;
      const highWaterMb = one.tree ? Math.max(...treeOf(one.pid).map(highWater), 0) : highWater(one.pid);
      one.usage = { cpuSeconds: Math.max(0, now - one.before), highWaterMb: Math.max(one.usage.highWaterMb, highWaterMb) };
    }
  }
}

function sum(a: Usage | undefined, b: Usage): Usage {
  return a ? { cpuSeconds: a.cpuSeconds + b.cpuSeconds, highWaterMb: Math.max(a.highWaterMb, b.highWaterMb) } : b;
}

/** `own` is of the process alone, `reaped` of its children that have ended: what a closed connection of PostgreSQL used. */
function ownCpu(pid: number): { own: number; reaped: number; parent: number } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ').map(Number);
    const [, parent = 0] = fields;
    const [user = 0, system = 0, childUser = 0, childSystem = 0] = fields.slice(11, 15);
    return { own: (user + system) / TICKS, reaped: (childUser + childSystem) / TICKS, parent };
  } catch {
    return undefined;
  }
}

function treeCpu(root: number): number {
  return treeOf(root).reduce((total, pid) => {
    const cpu = ownCpu(pid);
    return total + (cpu ? cpu.own + cpu.reaped : 0);
  }, 0);
}

function treeOf(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    const parent = Number.isInteger(pid) ? ownCpu(pid)?.parent : undefined;
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const tree = [root];
  for (let at = 0; at < tree.length; at++) tree.push(...(children.get(tree[at]!) ?? []));
  return tree;
}

/** VmHWM of proc(5) in MB; 0 when the process is gone. */
function highWater(pid: number): number {
  try {
    return Math.round(Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024);
  } catch {
    return 0;
  }
}
