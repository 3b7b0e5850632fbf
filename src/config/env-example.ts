import { OPTIONS, type Option } from './options.ts';

const TITLES: Record<keyof typeof OPTIONS, string> = {
  elasticsearch: 'Elasticsearch',
  postgres: 'PostgreSQL (Dify\'s database)',
  kafka: 'Kafka',
  program: 'The program',
};

/** The text of .env.example; a test holds the file against it. Secrets can also be given as a file: NAME_FILE=path. */
export function envExample(): string {
  const lines = ['# Copy to .env. Every value below is the default. A secret can also be given as a file: NAME_FILE=/path/of/it.'];
  for (const [group, options] of Object.entries(OPTIONS)) {
    lines.push('', `# ---- ${TITLES[group as keyof typeof OPTIONS]}`);
    for (const option of Object.values(options) as Option<unknown>[]) lines.push(`# ${option.doc}`, `${option.env}=${option.fallback}`);
  }
  return `${lines.join('\n')}\n`;
}

if (import.meta.main) process.stdout.write(envExample());
