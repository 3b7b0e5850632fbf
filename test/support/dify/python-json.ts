/** A piece of JSON text that goes in as it is: a float as Python prints it, NaN, a big integer. */
export class RawJson {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export type PythonJson = null | boolean | number | string | RawJson | readonly PythonJson[] | { readonly [key: string]: PythonJson };

/**
 * What Python's `json.dumps(value)` writes, which is what Dify stores: `", "` and `": "` between tokens and a `\uXXXX`
 * escape for everything beyond ASCII (ensure_ascii), astral characters as two escapes.
 */
export function pythonDumps(value: PythonJson): string {
  if (value === null) return 'null';
  if (typeof value === 'string') return pythonString(value);
  if (typeof value !== 'object') return String(value);
  if (value instanceof RawJson) return value.text;
  if (Array.isArray(value)) return `[${(value as readonly PythonJson[]).map(pythonDumps).join(', ')}]`;
  let body = '';
  for (const [key, member] of Object.entries(value as { readonly [key: string]: PythonJson })) {
    body += `${body === '' ? '' : ', '}${pythonString(key)}: ${pythonDumps(member)}`;
  }
  return `{${body}}`;
}

const PLAIN = /^[ !#-[\]-~]*$/;
const BEYOND_ASCII = /[\u007f-\uffff]/g;

function pythonString(text: string): string {
  if (PLAIN.test(text)) return `"${text}"`;
  return JSON.stringify(text).replace(BEYOND_ASCII, (unit) => (unit === '\u007f' ? unit : `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`));
}
