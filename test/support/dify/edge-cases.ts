import type { TextRow } from './copy.ts';
import { Random } from './random.ts';
import type { DifyTable } from './schema.ts';

export interface EdgeCaseOptions {
  readonly seed?: number;
  /** All rows belong to this tenant; default one drawn from the seed. */
  readonly tenantId?: string;
  /** `YYYY-MM` of all rows but those that stand at the borders of months. Default 2026-08. */
  readonly month?: string;
  /** Size of the largest values; default 8 MB. Elasticsearch refuses documents beyond about 2 % of its heap. */
  readonly largest?: number;
}

export type RowsByTable = Readonly<Record<DifyTable, readonly TextRow[]>>;

export interface EdgeCases {
  /** Hostile, and each has a document all the same. */
  readonly rows: RowsByTable;
  /** Rows without a month or with a date that Elasticsearch has none for: they end in the dead letters. */
  readonly deadLetters: RowsByTable;
}

const MEGABYTE = 1024 * 1024;

/** JSON column texts by the name of what is hostile about them. Every one is legal in a text column. */
export function hostileJson(largest: number = 8 * MEGABYTE): Readonly<Record<string, string>> {
  return {
    'NaN': '{"latency": NaN, "a": 1}',
    'infinities': '{"max": Infinity, "min": -Infinity}',
    'integers above 2^53': '{"a": 9007199254740993, "b": -9223372036854775808, "c": 18446744073709551617, "d": 123456789012345678901234567890}',
    'floats': '{"a": 1.10, "b": 1e5, "c": 1E-07, "d": -0.0, "e": 0.1234567890123456789, "f": 5e-324, "g": 1.0}',
    'minus zero': '{"a": -0}',
    'duplicate keys': '{"a": 1, "a": 2}',
    'duplicate keys by escape': '{"a": 1, "\\u0061": 2}',
    'duplicate keys deep inside': '{"list": [{"x": {"k": 1, "j": 2, "k": 3}}]}',
    'same key in different objects': '{"a": {"a": {"a": 1}}, "b": {"a": 2}}',
    'escaped NUL': '{"text": "before\\u0000after", "\\u0000": 1}',
    'raw newlines between tokens': '{"a": 1,\n"b": 2,\r\n"c": [1,\n2]}',
    'pretty-printed': '{\n    "a": {\n\t"b": [\n            1,\n            2\n        ]\n    }\n}\n',
    'raw newline inside a string': '{"a": "line one\nline two"}',
    'raw tab inside a string': '{"a": "one\ttwo"}',
    'white space around': ' \n\t{"a": 1} \r\n ',
    'deep but allowed': `${'{"k":'.repeat(400)}${'['.repeat(400)}1${']'.repeat(400)}${'}'.repeat(400)}`,
    'depth 1000': `${'['.repeat(1000)}${']'.repeat(1000)}`,
    'depth 100,000': '['.repeat(100_000) + ']'.repeat(100_000),
    'number of 900 digits': `{"n": ${'7'.repeat(900)}}`,
    'number of 1,500 digits': `{"n": ${'7'.repeat(1500)}}`,
    'fraction of 1,500 digits': `{"n": 0.${'3'.repeat(1500)}}`,
    'number beyond a double': '{"n": 1e400}',
    'raw non-ASCII': '{"text": "日本語 émoji 🙂 é ￿", "ключ": "значение"}',
    'escaped non-ASCII': '{"text": "\\u65e5\\u672c\\u8a9e \\ud83d\\ude42", "\\u043a": 1}',
    'lone surrogate escapes': '{"high": "\\ud800", "low": "\\udc00x", "turned": "\\ude42\\ud83d"}',
    'line separators': '{"text": "a\u2028b\u2029c\u0085d\ufeffe"}',
    'byte order mark first': '\ufeff{"a": 1}',
    'empty text': '',
    'white space only': ' \n ',
    'empty object': '{}',
    'array': '[1, "two", {"three": 3}]',
    'empty array': '[]',
    'string': '"only a string"',
    'empty string': '""',
    'number': '42',
    'big number': '9007199254740993',
    'boolean': 'true',
    'null': 'null',
    'null in mixed case': 'None',
    'Python dict': "{'a': 1}",
    'trailing comma': '{"a": 1,}',
    'comment': '{"a": 1} // end',
    'two documents': '{"a": 1}{"b": 2}',
    'cut off': '{"a": "trunc',
    'cut off in an escape': '{"a": "\\u12',
    'leading zero': '{"a": 01}',
    'plus sign': '{"a": +1}',
    'unknown escape': '{"a": "\\x41"}',
    'bulk action inside': '{"a": 1}\n{"delete": {"_id": "1"}}\n',
    'closing brace too many': '{"a": 1}}, "id": "other"',
    'hostile keys': '{"": 1, ".": 2, "a.b": {"c.": 3}, "sys.files": [], "#1711.query#": "x", "_id": 4, "_source": 5, "_invalid_json": 6, " ": 7, "__proto__": 8, "constructor": {"prototype": 9}}',
    'own marker as text': '{"_invalid_json": "NaN"}',
    'quotes and backslashes': '{"q": "\\"\\\\\\/\\b\\f\\n\\r\\t", "path": "C:\\\\new\\\\table"}',
    'integers as keys': '{"10": 1, "9": 2, "b": 3, "1": 4, "a": 5}',
    'a key of 60,000 characters': `{"${'k'.repeat(60_000)}": 1}`,
    '2 MB, escaped': `{"text": "${'\\u65e5 '.repeat(2 * MEGABYTE / 7)}"}`,
    '2 MB, not valid': `{"text": "${'x'.repeat(2 * MEGABYTE)}", "n": NaN}`,
    [`${largest} bytes`]: `{"body": "${'lorem ipsum '.repeat(Math.floor((largest - 13) / 12))}"}`,
  };
}

/** Values of text columns that break escaping somewhere: in SQL, in COPY, in JSON, in a bulk body, on a terminal. */
export function hostileTexts(): Readonly<Record<string, string>> {
  return {
    'empty': '',
    'blank': ' ',
    'quotes and backslashes': `"double" 'single' \\back\\slash \\" \\n \\N \\. $1 $$ ; -- /* */`,
    'control characters': Array.from({ length: 31 }, (_, i) => String.fromCharCode(i + 1)).join('') + '\u007f',
    'line ends': 'a\nb\r\nc\rd\u2028e\u2029f\u0085g',
    'non-ASCII': 'é 日本語 العربية 🙂 👨‍👩‍👧 \u{10ffff} \ufffe \ufeff',
    'looks like COPY': '\\N\t\\.\n',
    'looks like JSON': '{"index": {"_id": "1"}}\n{"a": NaN}',
    'looks like null': 'null',
    'looks like a date': '2026-01-01 00:00:00',
    'combining': 'e\u0301 n\u0303 \u202eright-to-left\u202c \u200bzero',
  };
}

/** created_at values that stand at borders: of months, of years, of fractions. */
const BORDER_TIMES = [
  '2026-07-31 23:59:59.999999', '2026-08-01 00:00:00', '2026-08-01 00:00:00.000001', '2026-08-31 23:59:59.999999', '2025-12-31 23:59:59.999999', '2026-01-01 00:00:00', '2024-02-29 12:00:00.5',
  '2026-03-29 02:30:00.120000', '2026-03-29 02:30:00.12', '2026-03-29 02:30:00.000100', '1970-01-01 00:00:00', '1969-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999',
];

const TIMES_WITHOUT_MONTH = ['infinity', '-infinity', '12026-01-01 00:00:00', '0044-03-15 12:00:00 BC'];

/** Hand-made rows for all four tables; ids are drawn from the seed. */
export function edgeCaseRows(options: EdgeCaseOptions = {}): EdgeCases {
  const random = new Random(options.seed ?? 0xed6e);
  const base = new BaseRows(random, options.tenantId ?? random.uuid(), options.month ?? '2026-08');
  const json = hostileJson(options.largest);
  const texts = Object.values(hostileTexts());
  const short = texts.map((text) => text.slice(0, 200));
  return {
    rows: {
      workflow_runs: [
        ...Object.values(json).flatMap((text) => [base.run({ graph: text, inputs: '{}' }), base.run({ outputs: text, inputs: text.length < MEGABYTE ? text : null })]),
        ...texts.map((text) => base.run({ error: text, version: text.slice(0, 200), status: text.slice(0, 200) })),
        ...BORDER_TIMES.map((time) => base.run({ created_at: time, finished_at: time })),
        base.run({ graph: null, inputs: null, outputs: null, error: null, finished_at: null, total_steps: null, exceptions_count: null }),
        ...['NaN', 'Infinity', '-Infinity', '1e-07', '1e+20', '0.1', '-0', '1.7976931348623157e308', '5e-324', '123456789.12345678'].map((elapsed_time) => base.run({ elapsed_time })),
        ...['9223372036854775807', '-9223372036854775808', '9007199254740993'].map((total_tokens) => base.run({ total_tokens, total_steps: '2147483647', exceptions_count: '-2147483648' })),
        base.run({ error: `Traceback (most recent call last):\n${'  File "/app/api/core/workflow.py", line 1, in run\n'.repeat(1200)}` }),
        base.run({ error: 'x'.repeat(2 * MEGABYTE) }),
      ],
      workflow_app_logs: [...short.map((created_from) => base.appLog({ created_from })), ...BORDER_TIMES.map((time) => base.appLog({ created_at: time }))],
      workflow_node_executions: [
        ...Object.values(json).flatMap((text, i) => base.nodeWith(['inputs', 'process_data', 'outputs', 'execution_metadata'][i % 4] ?? 'inputs', text)),
        ...short.map((text) => base.node({ title: text, error: text, node_id: text, predecessor_node_id: text, node_execution_id: text })),
        base.node({ title: '节'.repeat(255), node_type: '🙂'.repeat(255) }),
        base.node({ workflow_run_id: null, predecessor_node_id: null, inputs: null, process_data: null, outputs: null, execution_metadata: null, error: null, finished_at: null, node_execution_id: null, agent_workspace_binding_id: null }),
        base.node({ agent_workspace_binding_id: random.uuid(), index: '-2147483648' }),
        ...BORDER_TIMES.map((time) => base.node({ created_at: time, finished_at: time })),
        ...['NaN', '-Infinity', '0.30000000000000004'].map((elapsed_time) => base.node({ elapsed_time })),
      ],
      workflow_node_execution_offload: [base.offload({ node_execution_id: null }), ...['', ' ', '"\\', '日本語'].map((type) => base.offload({ type })), ...BORDER_TIMES.map((time) => base.offload({ created_at: time }))],
    },
    deadLetters: {
      workflow_runs: [...TIMES_WITHOUT_MONTH.map((time) => base.run({ created_at: time })), ...TIMES_WITHOUT_MONTH.map((time) => base.run({ finished_at: time }))],
      workflow_app_logs: TIMES_WITHOUT_MONTH.map((time) => base.appLog({ created_at: time })),
      workflow_node_executions: [...TIMES_WITHOUT_MONTH.map((time) => base.node({ created_at: time })), ...TIMES_WITHOUT_MONTH.map((time) => base.node({ finished_at: time }))],
      workflow_node_execution_offload: TIMES_WITHOUT_MONTH.map((time) => base.offload({ created_at: time })),
    },
  };
}

/** Ordinary rows, of which a case changes one or two columns. */
class BaseRows {
  private readonly random: Random;
  private readonly tenant: string;
  private readonly month: string;

  constructor(random: Random, tenant: string, month: string) {
    this.random = random;
    this.tenant = tenant;
    this.month = month;
  }

  run(columns: TextRow): TextRow {
    return {
      ...this.ids(), sequence_number: '1', type: 'workflow', triggered_from: 'app-run', version: 'draft', graph: '{"nodes": [], "edges": []}', inputs: '{"query": "x"}', status: 'succeeded', outputs: '{"answer": "y"}', error: null,
      elapsed_time: '1.25', total_tokens: '7', total_steps: '3', ...this.author(), created_at: this.time('12.345678'), finished_at: this.time('13.5'), exceptions_count: '0', ...columns,
    };
  }

  appLog(columns: TextRow): TextRow {
    return { ...this.ids(), workflow_run_id: this.random.uuid(), created_from: 'web-app', ...this.author(), created_at: this.time('12'), ...columns };
  }

  node(columns: TextRow): TextRow {
    return {
      ...this.ids(), triggered_from: 'workflow-run', workflow_run_id: this.random.uuid(), index: '1', predecessor_node_id: null, node_id: '1711526002155', node_type: 'code', title: 'Code', inputs: '{"arg1": "x"}', process_data: '{}',
      outputs: '{"result": 1}', status: 'succeeded', error: null, elapsed_time: '0.5', execution_metadata: null, created_at: this.time('12.000001'), ...this.author(), finished_at: this.time('12.1'),
      node_execution_id: this.random.uuid(), ...columns,
    };
  }

  nodeWith(column: string, text: string): TextRow[] {
    return [this.node({ [column]: text })];
  }

  offload(columns: TextRow): TextRow {
    return { id: this.random.uuid(), created_at: this.time('14.123456'), tenant_id: this.tenant, app_id: this.random.uuid(), node_execution_id: this.random.uuid(), type: 'outputs', file_id: this.random.uuid(), ...columns };
  }

  private ids(): TextRow {
    return { id: this.random.uuid(), tenant_id: this.tenant, app_id: this.random.uuid(), workflow_id: this.random.uuid() };
  }

  private author(): TextRow {
    return { created_by_role: 'account', created_by: this.random.uuid() };
  }

  private time(seconds: string): string {
    return `${this.month}-15 08:25:${seconds}`;
  }
}
