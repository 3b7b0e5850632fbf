/*
 * A reader of JSON text that keeps what a JS value loses: the digits of numbers and the order of keys. It turns a value
 * into canonical text, so that two values are equal exactly when their canonical texts are.
 *
 * The oracle shares no code with the product. Where both decide the same thing (is this text valid?), this file decides
 * it anew, by its own grammar instead of JSON.parse.
 */

export interface Limits {
  /** Nesting that is still read; an array or object at the top is depth 1. */
  readonly depth: number;
  /** Digits of one number, sign, point and exponent mark not counted. */
  readonly digits: number;
  /** Whether a key may come twice in one object (compared after escapes are resolved). */
  readonly duplicateKeys: 'allow' | 'refuse';
  /** A number beyond a double, which Elasticsearch would turn into the string "Infinity". */
  readonly infinite: 'allow' | 'refuse';
}

/** What a column's text has to keep to be stored as JSON and not as `_invalid_json`. */
const COLUMN_LIMITS: Limits = { depth: 900, digits: 1000, duplicateKeys: 'refuse', infinite: 'refuse' };

/** For the server's answers, which the server has checked itself. */
export const ANSWER_LIMITS: Limits = { depth: 5000, digits: Number.MAX_SAFE_INTEGER, duplicateKeys: 'allow', infinite: 'allow' };

/** The canonical text of a whole document, or undefined when the text is not valid JSON within the limits. */
export function canonicalJson(text: string, limits: Limits = COLUMN_LIMITS): string | undefined {
  try {
    const reader = new JsonReader(text, limits);
    const value = reader.value();
    reader.end();
    return value;
  } catch (error) {
    if (error instanceof NotJson) return undefined;
    throw error;
  }
}

class NotJson extends Error {}

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const PLAIN_STRING = /"[^"\\\u0000-\u001f]*"/y;
const WORD = /true|false|null/y;

/** Reads values one after another from a position in a text. Throws NotJson at the first thing that is none. */
export class JsonReader {
  readonly text: string;
  position = 0;
  private readonly limits: Limits;
  private depth = 0;

  constructor(text: string, limits: Limits = ANSWER_LIMITS) {
    this.text = text;
    this.limits = limits;
  }

  /** The next value as canonical text. */
  value(): string {
    switch (this.peek()) {
      case '{': return this.objectText();
      case '[': return this.arrayText();
      case '"': return this.string();
      case 't': case 'f': case 'n': return this.match(WORD);
      default: return this.number();
    }
  }

  /** Walks over the members of the next object; `onMember` gets the key as a canonical string, quotes and all, and has to read the value. */
  object(onMember: (key: string) => void): void {
    this.enter('{');
    const seen = this.limits.duplicateKeys === 'refuse' ? new KeySet() : undefined;
    if (!this.take('}')) {
      do {
        this.peek();
        const key = this.string();
        if (seen && !seen.add(key)) throw new NotJson('a key comes twice');
        this.expect(':');
        onMember(key);
      } while (this.take(','));
      this.expect('}');
    }
    this.depth--;
  }

  /** Walks over the elements of the next array; `onElement` has to read the value. */
  array(onElement: (index: number) => void): void {
    this.enter('[');
    if (!this.take(']')) {
      let index = 0;
      do onElement(index++);
      while (this.take(','));
      this.expect(']');
    }
    this.depth--;
  }

  /** After the last value: nothing but white space may follow. */
  end(): void {
    if (this.peek() !== '') throw new NotJson('text after the end');
  }

  private number(): string {
    const token = this.match(NUMBER);
    if (token.length > this.limits.digits && token.replace(/[^0-9]/g, '').length > this.limits.digits) throw new NotJson('too many digits');
    const canonical = canonicalNumber(token);
    if (canonical.startsWith('"') && this.limits.infinite === 'refuse') throw new NotJson('beyond a double');
    return canonical;
  }

  private objectText(): string {
    let text = '{';
    this.object((key) => {
      text += `${text === '{' ? '' : ','}${key}:${this.value()}`;
    });
    return `${text}}`;
  }

  private arrayText(): string {
    let text = '[';
    this.array((index) => {
      text += `${index === 0 ? '' : ','}${this.value()}`;
    });
    return `${text}]`;
  }

  /** As JSON.stringify would write it, whatever escapes the text used. */
  private string(): string {
    const plain = this.tryMatch(PLAIN_STRING);
    if (plain !== undefined) return plain;
    if (this.text.charAt(this.position) !== '"') throw new NotJson('string expected');
    const end = this.endOfString();
    const literal = this.text.slice(this.position, end);
    this.position = end;
    try {
      return JSON.stringify(JSON.parse(literal));
    } catch {
      throw new NotJson('no JSON string');
    }
  }

  /** Behind the quote that ends the string which begins here: the next quote with an even number of backslashes before it. */
  private endOfString(): number {
    for (let from = this.position + 1; ; ) {
      const quote = this.text.indexOf('"', from);
      if (quote < 0) throw new NotJson('unterminated string');
      let slashes = 0;
      while (this.text.charCodeAt(quote - 1 - slashes) === 0x5c) slashes++;
      if (slashes % 2 === 0) return quote + 1;
      from = quote + 1;
    }
  }

  private enter(bracket: string): void {
    this.expect(bracket);
    if (++this.depth > this.limits.depth) throw new NotJson('nested too deeply');
  }

  private peek(): string {
    for (;; this.position++) {
      const code = this.text.charCodeAt(this.position);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return this.text.charAt(this.position);
    }
  }

  private take(char: string): boolean {
    if (this.peek() !== char) return false;
    this.position++;
    return true;
  }

  private expect(char: string): void {
    if (!this.take(char)) throw new NotJson(`${char} expected`);
  }

  private match(pattern: RegExp): string {
    const found = this.tryMatch(pattern);
    if (found === undefined) throw new NotJson('no JSON value');
    return found;
  }

  private tryMatch(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.position;
    const found = pattern.exec(this.text)?.[0];
    if (found !== undefined) this.position += found.length;
    return found;
  }
}

/** The keys of one object. Most have a few, which are compared sooner than they are hashed. */
class KeySet {
  private readonly few: string[] = [];
  private many: Set<string> | undefined;

  /** False when the key was there already. */
  add(key: string): boolean {
    if (this.many ? this.many.has(key) : this.few.includes(key)) return false;
    if (this.many) this.many.add(key);
    else if (this.few.push(key) > 16) this.many = new Set(this.few);
    return true;
  }
}

/**
 * A number without what Elasticsearch may change about it. A mapping that excludes a field from _source makes the server
 * write the document anew [measured on 9.5.3]: integers of any size keep their digits, a number with a point or an
 * exponent passes through a double (`1.10` becomes `1.1`, `1e5` becomes `100000.0`), one beyond a double becomes the
 * string "Infinity", and -0 becomes 0. So integers are compared by their digits and the others as doubles, and an
 * integer never equals a float.
 */
export function canonicalNumber(token: string): string {
  if (/^-?[0-9]+$/.test(token)) return token === '-0' ? '0' : token;
  const double = Number(token);
  if (!Number.isFinite(double)) return JSON.stringify(String(double));
  return Object.is(double, -0) ? '-0.0' : Number.isInteger(double) ? `${double}.0` : String(double);
}
