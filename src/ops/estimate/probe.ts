import { constants, deflateRawSync, zstdCompressSync } from 'node:zlib';
import { CONNECTORS } from '../../connector/registry.ts';
import type { TableName } from '../../core/contracts.ts';
import { isUuid, monthOf } from '../../core/row-key.ts';
import { encodeRow } from '../../pipeline/encode/row-codec.ts';
import { schemaOf } from '../../pipeline/encode/row-schema.ts';
import { MAX_ROW_BYTES } from '../../pipeline/kafka/topics.ts';
import { ByteWriter } from '../../pipeline/sink/byte-writer.ts';
import { DocumentWriter } from '../../pipeline/sink/document.ts';
import { sampleIds } from '../validate/sample.ts';
import type { OpenTable, Source } from '../validate/source.ts';

/** What became of sampled rows of one table on the whole way, without writing anything. */
export interface Probe {
  readonly table: TableName;
  readonly rows: number;
  readonly avroBytes: number;
  /** As the broker stores it. */
  readonly packedBytes: number;
  readonly documentBytes: number;
  /** As Lucene's default codec stores it, about. */
  readonly storedBytes: number;
  /** Documents with a JSON column that is no valid JSON and is kept as `_invalid_json`. */
  readonly invalidJson: number;
  /** Rows that would go to the dead letters, by cause. */
  readonly refused: Readonly<Record<'no-month' | 'bad-key' | 'row-too-large' | 'too-large-for-elasticsearch', number>>;
  /** For reading, encoding and document writing of these rows, one after another, here. */
  readonly seconds: number;
}

export interface ProbeSettings {
  readonly count: number;
  readonly searchTextBytes: number;
  /** A document above it is refused by Elasticsearch for ever; null when it did not say. */
  readonly documentLimitBytes: number | null;
}

/** Reads about `count` random rows and takes each through the encoding and the document, as the pipeline would. */
export async function probeTable(source: Source, open: OpenTable, condition: string | null, { count, searchTextBytes, documentLimitBytes }: ProbeSettings): Promise<Probe> {
  const { table } = open.source;
  const documents = new DocumentWriter(CONNECTORS[table], { searchTextBytes });
  const refused = { 'no-month': 0, 'bad-key': 0, 'row-too-large': 0, 'too-large-for-elasticsearch': 0 };
  const sum = { rows: 0, avroBytes: 0, packedBytes: 0, documentBytes: 0, storedBytes: 0, invalidJson: 0 };
  const ids = await sampleIds(source, open, count, condition);
  const began = performance.now();
  for await (const batch of source.rowsOf(open, ids)) {
    const writer = new ByteWriter(1 << 20);
    const values: Buffer[] = [];
    for (const { key, row } of batch) {
      const value = encodeRow(row.cells, schemaOf(row.shape).fingerprint);
      values.push(value);
      if (!isUuid(key.id) || !isUuid(key.tenantId)) refused['bad-key']++;
      else if (monthOf(key.createdAt) === undefined) refused['no-month']++;
      if (value.length > MAX_ROW_BYTES) refused['row-too-large']++;
      const before = writer.length;
      if (documents.write(writer, row).invalidJson > 0) sum.invalidJson++;
      if (documentLimitBytes !== null && writer.length - before > documentLimitBytes) refused['too-large-for-elasticsearch']++;
    }
    const records = Buffer.concat(values);
    sum.rows += batch.length;
    sum.avroBytes += records.length;
    sum.packedBytes += zstdCompressSync(records, { params: { [constants.ZSTD_c_compressionLevel]: 1 } }).length;
    sum.documentBytes += writer.length;
    sum.storedBytes += deflateRawSync(writer.bytes.subarray(0, writer.length), { level: 1 }).length;
  }
  return { table, ...sum, refused, seconds: (performance.now() - began) / 1000 };
}
