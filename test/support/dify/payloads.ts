import { pythonDumps, RawJson, type PythonJson } from './python-json.ts';
import type { Random } from './random.ts';
import type { Prose } from './words.ts';

/*
 * The JSON that Dify's nodes write, as key sets of release 1.12 to 1.16 have them. Lengths are in characters and scale
 * with `factor`, so that a bench can ask for smaller or larger rows of the same shapes.
 */

const NODE_TYPES = ['start', 'llm', 'knowledge-retrieval', 'code', 'if-else', 'http-request', 'tool', 'iteration', 'end'] as const;
export type NodeType = (typeof NODE_TYPES)[number];

/** The order in which a run passes its nodes: start first, end last, the others in between as often as needed. */
export function nodeTypesOfRun(count: number): NodeType[] {
  if (count <= 1) return ['start'].slice(0, count) as NodeType[];
  const middle: NodeType[] = ['llm', 'knowledge-retrieval', 'code', 'if-else', 'http-request', 'tool', 'iteration'];
  return ['start', ...Array.from({ length: count - 2 }, (_, i) => middle[i % middle.length] as NodeType), 'end'];
}

export interface PayloadContext {
  readonly random: Random;
  readonly prose: Prose;
  readonly factor: number;
}

export interface NodePayload {
  readonly inputs: string | null;
  readonly processData: string | null;
  readonly outputs: string | null;
  readonly metadata: string | null;
  readonly tokens: number;
}

type Json = Readonly<Record<string, PythonJson>>;

/** A workflow's graph: about 6 to 10 kB at factor 1; the same text is stored again with each of its runs. */
export function graphText({ random, prose, factor }: PayloadContext, types: readonly NodeType[]): string {
  const nodes = types.map((type, i) => graphNode(random, prose, type, i, factor));
  const edges = nodes.slice(1).map((node, i) => {
    const source = nodes[i] as (typeof nodes)[number];
    return {
      id: `${source.id}-source-${node.id}-target`, source: source.id, sourceHandle: 'source', target: node.id, targetHandle: 'target', type: 'custom',
      data: { sourceType: source.data.type, targetType: node.data.type, isInIteration: false, isInLoop: false },
    };
  });
  return pythonDumps({ nodes: nodes as unknown as PythonJson, edges, viewport: { x: -18.05, y: -139.1, zoom: 0.84 } });
}

function graphNode(random: Random, prose: Prose, type: NodeType, index: number, factor: number): { id: string; data: Json & { type: string } } & Json {
  const x = new RawJson(`${80 + index * 304}.${random.int(1, 9)}`);
  const length = Math.round(random.int(300, 900) * factor);
  return {
    id: nodeId(index), type: 'custom', width: 243, height: random.int(54, 250), selected: false, dragging: false, sourcePosition: 'right', targetPosition: 'left',
    position: { x, y: 515.5 }, positionAbsolute: { x, y: 515.5 },
    data: {
      type, title: nodeTitle(type), desc: '', selected: false,
      ...(type === 'start' ? { variables: [{ variable: 'query', label: 'Query', type: 'paragraph', max_length: 4000, required: true, options: [] }] } : {}),
      ...(type === 'llm'
        ? {
            model: { provider: 'langgenius/openai/openai', name: 'gpt-4o-mini', mode: 'chat', completion_params: { temperature: 0.7 } },
            prompt_template: [{ id: random.uuid(), role: 'system', text: prose.json(random, length * 3) }, { id: random.uuid(), role: 'user', text: `{{#${nodeId(0)}.query#}}` }],
            context: { enabled: false, variable_selector: [] }, vision: { enabled: false },
          }
        : { settings: { note: prose.json(random, length), retry_config: { enabled: false, max_retries: 3, retry_interval: 1000 } } }),
      ...(type === 'end' ? { outputs: [{ variable: 'answer', value_selector: [nodeId(1), 'text'] }] } : {}),
    },
  };
}

export function nodeId(index: number): string {
  return String(1_711_526_002_155 + index * 419_768);
}

export function nodeTitle(type: NodeType): string {
  return { start: 'Start', llm: 'LLM', 'knowledge-retrieval': 'Knowledge Retrieval', code: 'Code', 'if-else': 'IF/ELSE', 'http-request': 'HTTP Request', tool: 'Tool', iteration: 'Iteration', end: 'End' }[type];
}

export function runInputs({ random, prose, factor }: PayloadContext, ids: { app: string; workflow: string; run: string; chat: boolean; timestamp: number }): string {
  const query = prose.json(random, random.int(40, 700) * factor);
  const system = { 'sys.user_id': `user-${random.int(1, 9999)}`, 'sys.app_id': ids.app, 'sys.workflow_id': ids.workflow, 'sys.workflow_run_id': ids.run };
  return pythonDumps(ids.chat ? { 'sys.query': query, 'sys.files': [], 'sys.dialogue_count': random.int(1, 9), ...system } : { query, 'sys.files': [], ...system, 'sys.timestamp': ids.timestamp });
}

export function runOutputs({ random, prose, factor }: PayloadContext, chat: boolean): string {
  const answer = prose.json(random, random.int(100, 1600) * factor);
  return pythonDumps(chat ? { answer, files: [] } : { answer });
}

/** What a node of this type holds when it has ended. `inputs` are the run's own, which the start node repeats. */
export function nodePayload(context: PayloadContext, type: NodeType, inputs: string): NodePayload {
  const { random, prose, factor } = context;
  const text = (low: number, high: number): RawJson => prose.json(random, random.int(low, high) * factor);
  const node = (given: Json, processData: Json, outputs: Json, metadata: Json | null = null, tokens = 0): NodePayload => ({
    inputs: pythonDumps(given), processData: pythonDumps(processData), outputs: pythonDumps(outputs), metadata: metadata && pythonDumps(metadata), tokens,
  });
  switch (type) {
    case 'start': return { inputs, processData: '{}', outputs: inputs, metadata: null, tokens: 0 };
    case 'llm': return llmPayload(context);
    case 'knowledge-retrieval': {
      const result = Array.from({ length: random.int(3, 5) }, (_, i) => segment(context, i + 1));
      return node({ query: text(40, 200) }, { usage: usage(random, 0, 0) }, { result }, { total_tokens: 0, total_price: '0', currency: 'USD' });
    }
    case 'code': return node({ arg1: text(100, 700) }, {}, { result: { text: text(100, 1200), score: random.int(0, 1000) / 1000, rows: [1, 2, random.int(3, 99)] } });
    case 'if-else': {
      const results = [{ group: { case_id: 'true', logical_operator: 'and', conditions: [] }, results: [true], final_result: true }];
      return node({ conditions: [{ actual_value: text(10, 60), expected_value: 'b', comparison_operator: 'is' }] }, { condition_results: results }, { result: true, selected_case_id: 'true' });
    }
    case 'http-request': {
      const request = `POST /v1/x HTTP/1.1\r\nHost: api.example\r\nAuthorization: *****\r\n\r\n${prose.text(random, random.int(100, 400) * factor)}`;
      return node({}, { request }, { status_code: random.pick([200, 200, 404]), body: text(500, 4000), headers: { 'content-type': 'application/json' }, files: [] });
    }
    case 'tool': return node({ q: text(20, 80) }, {}, { text: text(200, 1500), files: [], json: [{ data: [] }] }, { tool_info: { provider_type: 'builtin', provider_id: 'time', plugin_unique_identifier: 'langgenius/x:0.0.1' } });
    case 'iteration': return node({ iterator_selector: [text(20, 90), text(20, 90)] }, {}, { output: [text(80, 400), text(80, 400)] }, { total_tokens: 0, total_price: '0', currency: 'USD', iteration_duration_map: { '0': 1.2, '1': 0.9 } });
    case 'end': return node({ answer: text(100, 900) }, {}, { answer: text(100, 900) });
    default: return type satisfies never;
  }
}

function llmPayload({ random, prose, factor }: PayloadContext): NodePayload {
  const [prompt, completion] = [random.int(200, 4000), random.int(50, 900)];
  const price = usage(random, prompt, completion);
  const question = prose.json(random, random.int(60, 500) * factor);
  const prompts = [{ role: 'system', text: prose.json(random, random.int(2200, 5200) * factor), files: [] }, { role: 'user', text: question, files: [] }];
  return {
    inputs: pythonDumps({ '#context#': '', [`#${nodeId(0)}.query#`]: question }),
    processData: pythonDumps({ model_mode: 'chat', prompts, usage: price, finish_reason: 'stop', model_provider: 'langgenius/openai/openai', model_name: 'gpt-4o-mini' }),
    outputs: pythonDumps({ text: prose.json(random, random.int(400, 3000) * factor), reasoning_content: '', usage: price, finish_reason: 'stop' }),
    metadata: pythonDumps({ total_tokens: prompt + completion, total_price: '0.0002658', currency: 'USD' }),
    tokens: prompt + completion,
  };
}

function usage(random: Random, prompt: number, completion: number): Json {
  return {
    prompt_tokens: prompt, prompt_unit_price: '0.15', prompt_price_unit: '0.000001', prompt_price: '0.0001218', completion_tokens: completion, completion_unit_price: '0.6', completion_price_unit: '0.000001',
    completion_price: '0.000144', total_tokens: prompt + completion, total_price: '0.0002658', currency: 'USD',
    latency: random.int(101, 9999) / 1000, time_to_first_token: new RawJson(random.pick(['0.62', '1.0', '3.5e-05'])), time_to_generate: random.int(101, 9999) / 1000,
  };
}

function segment({ random, prose, factor }: PayloadContext, position: number): Json {
  return {
    metadata: {
      _source: 'knowledge', dataset_id: random.uuid(), dataset_name: 'kb', document_id: random.uuid(), document_name: 'manual.pdf', data_source_type: 'upload_file', segment_id: random.uuid(), retriever_from: 'workflow',
      score: random.int(1, 9999) / 10000, child_chunks: [], segment_hit_count: random.int(0, 90), segment_word_count: random.int(80, 900), segment_position: position,
      segment_index_node_hash: Array.from({ length: 8 }, () => random.bits().toString(16).padStart(8, '0')).join(''), doc_metadata: null, position,
    },
    title: 'manual.pdf', files: null, content: prose.json(random, random.int(500, 1900) * factor),
  };
}
