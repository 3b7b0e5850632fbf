import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LocalFault } from './fault.ts';
import { run } from './run.ts';

const NAME = 'mail-analysis';

/** Compiles the plugin of that folder against the server in `software` and puts it among its plugins; see its source for why. */
export async function addMailAnalysis(software: string, { full, java }: { readonly full: string; readonly java: number }, javaHome: string): Promise<void> {
  const classes = mkdtempSync(join(tmpdir(), 'dify-es-plugin-'));
  const plugin = join(software, 'plugins', NAME);
  mkdirSync(plugin, { recursive: true });
  try {
    await tool(javaHome, 'javac', ['--release', String(java), '-nowarn', '-cp', join(software, 'lib/*'), '-d', classes, join(import.meta.dirname, NAME, 'MailAnalysisPlugin.java')]);
    await tool(javaHome, 'jar', ['--create', '--file', join(plugin, `${NAME}.jar`), '-C', classes, '.']);
  } finally {
    rmSync(classes, { recursive: true, force: true });
  }
  const descriptor = { description: 'names of the analysis module', version: '1', name: NAME, classname: 'MailAnalysisPlugin', 'java.version': String(java), 'elasticsearch.version': full };
  writeFileSync(join(plugin, 'plugin-descriptor.properties'), Object.entries(descriptor).map(([key, value]) => `${key}=${value}\n`).join(''));
}

async function tool(javaHome: string, name: string, args: readonly string[]): Promise<void> {
  const { status, stdout, stderr, error } = await run(join(javaHome, 'bin', name), args);
  if (status !== 0) throw new LocalFault(`${name} of ${javaHome} failed: ${error?.message ?? `${stdout}${stderr}`.trim().split('\n')[0]}; a JDK is needed, a JRE is not enough`);
}
