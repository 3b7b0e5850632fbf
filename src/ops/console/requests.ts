import { isUuid } from '../../core/row-key.ts';
import type { SearchRequest } from '../search/query.ts';

const DEFAULT_LIMIT = 25;
const MOST = 1_000;
const LONGEST = 400;

/** A search as the page asks for it, or what is wrong with it, in words. Pure. */
export function searchRequest(query: URLSearchParams): SearchRequest | string {
  const text = (name: string): string => (query.get(name) ?? '').trim();
  if (text('words').length > LONGEST) return `more than ${LONGEST} characters are no words to search for`;
  const tenant = text('tenant').toLowerCase();
  if (tenant !== '' && !isUuid(tenant)) return 'the tenant is no uuid';
  if (text('status').length > 64) return 'there is no such status';
  const limit = text('limit') === '' ? DEFAULT_LIMIT : Number(text('limit'));
  if (!Number.isInteger(limit) || limit < 1 || limit > MOST) return `the limit is no whole number from 1 to ${MOST}`;
  return { words: wordsOf(text('words')), tenantIds: tenant === '' ? [] : [tenant], status: text('status') || null, from: null, before: null, limit };
}

/** Words apart, or a phrase in quotes, as a shell has them; a quote without its other half is only a sign. */
export function wordsOf(text: string): string[] {
  return [...text.matchAll(/"([^"]+)"|(\S+)/g)].map(([, phrase, word]) => (phrase ?? word ?? '').replaceAll('"', '').trim()).filter((word) => word !== '');
}

/** Where a document is; checked again against the prefix where it is read. */
export function placeOf(query: URLSearchParams): { readonly index: string; readonly id: string } | null {
  const [index, id] = [query.get('index') ?? '', query.get('id') ?? ''];
  return index.length > 0 && index.length <= 255 && isUuid(id) ? { index, id } : null;
}
