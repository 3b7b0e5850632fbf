import Table from 'cli-table3';

/** Standard output: lines for a person, or one JSON document at the end (`--json`). */
export interface Output {
  readonly json: boolean;
  /** A line for a person; nothing under --json. */
  line(text?: string): void;
  /** Rows under a head for a person; nothing under --json. */
  table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): void;
  /** The answer as data: printed under --json alone. */
  result(data: unknown): void;
}

export function createOutput(json: boolean, write: (text: string) => void = (text) => process.stdout.write(text)): Output {
  return {
    json,
    line: (text = '') => {
      if (!json) write(`${text}\n`);
    },
    table: (head, rows) => {
      if (json) return;
      const table = new Table({ head: [...head], style: { head: [], border: [], compact: true } });
      table.push(...rows.map((row) => row.map(String)));
      write(`${table.toString()}\n`);
    },
    result: (data) => {
      if (json) write(`${JSON.stringify(data, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value), 2)}\n`);
    },
  };
}
