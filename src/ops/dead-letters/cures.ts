import type { DeadLetterCause } from '../../core/contracts.ts';

/** What to do about each cause, in a line; docs/05-operations.md says more. */
export const LETTER_CURES: Readonly<Record<DeadLetterCause, string>> = {
  refused: 'Mostly an index that was made by hand with other types: mend or drop it, then dify-es dlq redrive.',
  'too-large-for-elasticsearch': 'More heap, then dify-es dlq redrive; or dify-es dlq accept.',
  'row-too-large': "Raise the topic's max.message.bytes, restart stream, then dify-es dlq redrive; or dify-es dlq accept.",
  'row-gone': 'dify-es dlq redrive settles it.',
  'no-month': 'created_at names no month: correct the row, then dify-es dlq redrive; or dify-es dlq accept.',
  'bad-key': 'It names no row: dify-es dlq show, then accept.',
  undecodable: 'No record of this program: dify-es dlq show, then accept.',
};
