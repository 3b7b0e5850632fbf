import { dirname, join, normalize } from 'node:path';

/** A source file: its path in the checkout with `/`, and its text. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

/** Which folders a file of a folder may import, beside its own. The first fitting rule counts; no rule means anything goes. */
const RULES: readonly { readonly from: RegExp; readonly to: readonly RegExp[]; readonly why: string }[] = [
  { from: /^src\/core\//, to: [], why: 'core holds the words and imports nothing of the project' },
  { from: /^connectors\//, to: [/^src\/connector\//], why: 'a connector declares and imports only what src/connector offers' },
  { from: /^src\/connector\//, to: [/^src\/core\//, /^connectors\//], why: 'src/connector is below the stages' },
  { from: /^src\/config\//, to: [/^src\/core\//], why: 'configuration knows no stage' },
  { from: /^src\/pipeline\/[^/]+\//, to: [/^src\/core\//, /^src\/connector\//], why: 'a stage imports core, connector and its own folder, never another stage' },
  { from: /^src\/ops\/(?:watch\/|validate\/|drain\.ts$)/, to: [/^src\/(core|connector|pipeline)\//], why: 'ops/watch, ops/validate and ops/drain read and judge for run too, so they are below run' },
  { from: /^src\/run\//, to: [/^src\/(core|connector|config|pipeline)\//, /^src\/ops\/(?:watch\/|validate\/|drain\.ts$)/], why: 'run wires the stages and is below ops and cli' },
  { from: /^src\/ops\//, to: [/^src\/(core|connector|config|pipeline|run)\//], why: 'ops is below cli' },
  { from: /^src\//, to: [/^src\//], why: 'the program imports nothing of tests and scripts' },
];

/** One client library, one stage. Operations look at all three servers and the wiring in src/run connects to them: they may use all. */
const CLIENTS: readonly { readonly packages: RegExp; readonly allowed: RegExp }[] = [
  { packages: /^(pg|pg-copy-streams|pg-logical-replication)$/, allowed: /^src\/(pipeline\/(backfill|capture)|ops|run)\// },
  { packages: /^kafkajs$/, allowed: /^src\/(pipeline\/kafka|ops|run)\// },
  { packages: /^@elastic\/elasticsearch$/, allowed: /^src\/(pipeline\/sink|ops|run)\// },
];

/** Each import that points the wrong way, as one line for a person. */
export function importFaults(files: readonly SourceFile[]): readonly string[] {
  return files.flatMap((file) => importsOf(file.text).flatMap((specifier) => faultOf(file.path, specifier) ?? []));
}

function faultOf(path: string, specifier: string): string | undefined {
  if (!specifier.startsWith('.')) {
    const client = CLIENTS.find(({ packages }) => packages.test(specifier));
    return path.startsWith('src/') && client && !client.allowed.test(path) ? `${path} imports ${specifier}: one client library, one stage` : undefined;
  }
  const target = normalize(join(dirname(path), specifier));
  const rule = RULES.find(({ from }) => from.test(path));
  const own = rule?.from.exec(path)?.[0];
  if (!rule || own === undefined || target.startsWith(own) || rule.to.some((allowed) => allowed.test(target))) return undefined;
  return `${path} imports ${target}: ${rule.why}`;
}

/** The specifiers of static imports, re-exports and import() of a literal. */
export function importsOf(text: string): readonly string[] {
  const code = text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/^\s*\/\/.*$/gm, '');
  return [...code.matchAll(/(?:^|\n)\s*(?:import|export)\b[^'"`;]*?from\s*['"]([^'"]+)['"]|(?:^|\n)\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/g)].map(([, from, bare, dynamic]) => from ?? bare ?? dynamic ?? '');
}
