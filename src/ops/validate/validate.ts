import type { Row, TableName } from '../../core/contracts.ts';
import type { DifyEsError } from '../../core/errors.ts';
import type { RowVersion } from '../../core/row-version.ts';
import { filterSql, normalizeFilter } from '../../pipeline/backfill/filter.ts';
import { suspectsOfDocuments, suspectsOfRows, type ComparePorts } from './compare.ts';
import type { Documents, IndexInfo } from './documents.ts';
import type { Boundaries } from './expectations.ts';
import { Rechecker } from './recheck.ts';
import type { RepairReport, Repairer } from './repairer.ts';
import { estimateRows, oneIdOfEach, sampleIds, tenantsOf } from './sample.ts';
import { pick, shareOut } from './sample-plan.ts';
import type { OpenTable, Source } from './source.ts';
import { Tally, type Difference } from './tally.ts';
import type { SeenRow, Suspect } from './verdict.ts';
import { Window } from './window.ts';

/** Suspects in memory before they are looked at again: a bound, since after a lost run every row may be one. */
const HELD = 50_000;
/** Batches compared side by side: PostgreSQL and Elasticsearch answer at the same time. Each holds about 16 MB. */
const ABREAST = 3;
/** A tenant's share of a table from which on reading all pages is quicker than asking the index for its rows. */
const SCAN_SHARE = 0.2;

export interface ValidateRequest {
  readonly tables: readonly TableName[];
  /** Empty: all. */
  readonly tenantIds: readonly string[];
  /** 'full', or how many rows and how many documents are drawn, over all tables. */
  readonly sample: 'full' | number;
}

export interface ValidateProgress {
  readonly table: TableName;
  readonly phase: 'rows' | 'documents';
  readonly done: number;
  readonly total: number;
  /** Rows or documents looked at. */
  readonly count: number;
}

export interface ValidatePorts {
  readonly source: Source;
  readonly documents: Documents;
  /** What differs on purpose, as it is recorded at the moment of the call. */
  readonly boundaries: () => Promise<Boundaries>;
  /** The document a row should have, as one line; valid until the next call. */
  readonly expectedText: (row: Row) => Buffer;
  /** As in RecheckPorts: everything committed by now is in Elasticsearch; the version of a commit at that moment. */
  readonly drain: () => Promise<RowVersion>;
  /** Only with --repair. */
  readonly repairer: Repairer | null;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: ValidateProgress) => void;
}

export interface Validation {
  readonly tally: Tally;
  /** Tables that this Dify release has. */
  readonly tables: readonly TableName[];
  /** Tables that were rewritten or altered while they were read: rows may have been missed. */
  readonly rewritten: readonly TableName[];
  /** Why the path could not be drained: then rows in flight may be among the differences, and what is equal may not stay so. */
  readonly notDrained: DifyEsError | null;
  readonly repair: RepairReport | null;
}

/** Compares both ends and, with a repairer, sends again what is missing or stale. Reads PostgreSQL and Elasticsearch only. */
export async function validate(request: ValidateRequest, ports: ValidatePorts): Promise<Validation> {
  const open: OpenTable[] = [];
  for (const table of request.tables) {
    const found = await ports.source.open(table);
    if (found) open.push(found);
  }
  const run = new ValidationRun(open, request, { ...ports, known: await ports.boundaries() });
  await (request.sample === 'full' ? run.full() : run.sampled(request.sample));
  return run.finish();
}

/** `known`: the boundaries at the start, for the first look. */
type RunPorts = ValidatePorts & { readonly known: Boundaries };

class ValidationRun {
  readonly #tables: readonly OpenTable[];
  readonly #request: ValidateRequest;
  readonly #ports: RunPorts;
  readonly #compare: ComparePorts;
  readonly #rechecker: Rechecker;
  readonly #tally = new Tally();
  readonly #condition: string | null;
  readonly #rewritten: TableName[] = [];
  #held = new Map<string, Suspect>();

  constructor(tables: readonly OpenTable[], request: ValidateRequest, ports: RunPorts) {
    this.#tables = tables;
    this.#request = request;
    this.#ports = ports;
    this.#compare = { ...ports, tally: this.#tally };
    this.#rechecker = new Rechecker({ ...ports, tables: new Map(tables.map((table) => [table.source.table, table])) });
    this.#condition = filterSql(normalizeFilter({ tables: request.tables, tenantIds: request.tenantIds, from: null, before: null }));
  }

  async full(): Promise<void> {
    for (const table of this.#tables) {
      await this.#allRows(table);
      await this.#allDocuments(table);
      if (await this.#ports.source.hasChanged(table)) this.#rewritten.push(table.source.table);
    }
    // once for all tables: the drain point takes seconds, whatever it is for
    await this.#settle();
  }

  async sampled(size: number): Promise<void> {
    const indices = await this.#drawDocuments(size);
    const counts: number[] = [];
    for (const table of this.#tables) counts.push(await estimateRows(this.#ports.source, table, this.#condition));
    const shares = shareOut(size, counts);
    for (const [i, table] of this.#tables.entries()) await this.#drawRows(table, shares[i]!, indices);
    await this.#settle();
  }

  finish(): Validation {
    return {
      tally: this.#tally,
      tables: this.#tables.map(({ source }) => source.table),
      rewritten: this.#rewritten,
      notDrained: this.#rechecker.notDrained,
      repair: this.#ports.repairer?.report() ?? null,
    };
  }

  async #allRows(table: OpenTable): Promise<void> {
    const { source, size } = table;
    let count = 0;
    const show = (done: number): void => this.#ports.onProgress?.({ table: source.table, phase: 'rows', done, total: size.blocks, count });
    const batches = (await this.#isSelective(table)) ? this.#ports.source.scanByKey(table, this.#condition!) : this.#ports.source.scan(table, this.#condition);
    const window = new Window(ABREAST);
    for await (const { rows, blocksDone } of batches) {
      await window.run(() => this.#rows(source.table, rows));
      count += rows.length;
      show(blocksDone);
      if (this.#held.size < HELD) continue;
      await window.close();
      await this.#settle();
    }
    await window.close();
    show(size.blocks);
  }

  async #isSelective(table: OpenTable): Promise<boolean> {
    if (this.#condition === null) return false;
    const all = await estimateRows(this.#ports.source, table, null);
    return (await estimateRows(this.#ports.source, table, this.#condition)) < all * SCAN_SHARE;
  }

  async #allDocuments(table: OpenTable): Promise<void> {
    const indices = await this.#indices(table);
    const total = indices.reduce((sum, { documents }) => sum + documents, 0);
    let count = 0;
    for (const { name, parts } of indices) {
      for await (const page of this.#ports.documents.scan(name)) {
        this.#hold(await suspectsOfDocuments(this.#compare, table, page));
        if (this.#held.size >= HELD) await this.#settle();
        this.#tally.documents(table.source.table, parts.tenantId, parts.month, page.length);
        count += page.length;
        this.#ports.onProgress?.({ table: table.source.table, phase: 'documents', done: Math.min(count, total), total, count });
      }
    }
  }

  /** Draws documents from every index, so that each tenant and month is seen, and looks for their rows. */
  async #drawDocuments(size: number): Promise<readonly IndexInfo[]> {
    const indices: { info: IndexInfo; table: OpenTable }[] = [];
    for (const table of this.#tables) for (const info of await this.#indices(table)) indices.push({ info, table });
    const shares = shareOut(size, indices.map(({ info }) => info.documents));
    // one of each index is already more than was asked for: then one of as many indices
    const chosen = new Set(pick(indices.map((_, i) => i).filter((i) => shares[i]! > 0), size));
    for (const [i, { info, table }] of indices.entries()) {
      if (!chosen.has(i)) continue;
      const { tenantId, month } = info.parts;
      const drawn = await this.#draw(info, shares[i]!);
      this.#tally.documents(table.source.table, tenantId, month, drawn.length);
      this.#hold(await suspectsOfDocuments(this.#compare, table, drawn));
    }
    return indices.map(({ info }) => info);
  }

  async #draw(info: IndexInfo, count: number): Promise<readonly { index: string; id: string; version: bigint; text: Buffer; source: null }[]> {
    const { documents } = this.#ports;
    const light = ({ index, id, version }: { index: string; id: string; version: bigint }) => ({ index, id, version, text: Buffer.alloc(0), source: null });
    if (count <= 10_000) return (await documents.sample(info.name, count)).map(light);
    const drawn: ReturnType<typeof light>[] = [];
    const chance = count / info.documents;
    for await (const page of documents.scan(info.name)) for (const document of page) if (Math.random() < chance) drawn.push(light(document));
    return drawn;
  }

  async #drawRows(table: OpenTable, share: number, indices: readonly IndexInfo[]): Promise<void> {
    const { source } = this.#ports;
    const name = table.source.table;
    const ids = new Set(await sampleIds(source, table, share, this.#condition));
    if (share > 0) for (const id of await this.#unseenTenants(table, share, [...ids], indices)) ids.add(id);
    let count = 0;
    for await (const rows of source.rowsOf(table, [...ids])) {
      await this.#rows(name, rows);
      count += rows.length;
      this.#ports.onProgress?.({ table: name, phase: 'rows', done: count, total: ids.size, count });
    }
  }

  /** A row of each tenant that the draw left out (at most as many as were drawn). */
  async #unseenTenants(table: OpenTable, share: number, ids: readonly string[], indices: readonly IndexInfo[]): Promise<string[]> {
    const { source } = this.#ports;
    const known = await tenantsOf(source, table);
    if (known === null) return [];
    const tenants = new Set([...known, ...indices.filter(({ parts }) => parts.connector.table === table.source.table).map(({ parts }) => parts.tenantId)]);
    const wanted = this.#request.tenantIds;
    for (const { tenantId } of (await source.placesOf(table, ids)).values()) tenants.delete(tenantId);
    return await oneIdOfEach(source, table, pick([...tenants].filter((tenant) => wanted.length === 0 || wanted.includes(tenant)), share));
  }

  async #indices(table: OpenTable): Promise<IndexInfo[]> {
    const { documents, known } = this.#ports;
    return (await documents.indices(table.source.table, this.#request.tenantIds)).filter(({ parts }) => !known.switched.has(parts.tenantId));
  }

  async #rows(table: TableName, rows: readonly SeenRow[]): Promise<void> {
    this.#ports.signal.throwIfAborted();
    this.#hold(await suspectsOfRows(this.#compare, table, rows));
  }

  #hold(suspects: readonly Suspect[]): void {
    for (const suspect of suspects) this.#held.set(`${suspect.table}/${suspect.id}/${suspect.foundIn ?? ''}`, suspect);
  }

  /** Looks at everything held again, mends what can be mended, and counts what is left. */
  async #settle(): Promise<void> {
    const first = await this.#rechecker.recheck([...this.#held.values()]);
    this.#held = new Map();
    const differences = withoutDoubles(first.differences);
    for (const why of first.apart) this.#tally.apart[why]++;
    const repairer = this.#ports.repairer;
    const mended = repairer ? await repairer.mend(differences, this.#rechecker.notDrained === null) : [];
    const again = new Set(mended);
    for (const difference of differences) if (!again.has(difference)) this.#tally.difference(difference);
    this.#tally.inFlight += first.inFlight;
    if (mended.length === 0) return;

    const second = await this.#rechecker.recheck(mended.map(({ table, id, class: kind, index }) => ({ table, id, foundIn: kind === 'missing' || kind === 'stale' ? null : index })));
    for (const difference of second.differences) this.#tally.difference(difference);
    this.#tally.inFlight += second.inFlight;
    repairer?.proven(mended.length - second.differences.length - second.inFlight);
  }
}

/**
 * A row that lacks its document is one difference, however often it was looked at: as a row, and for each document of it
 * elsewhere. wrong-index says itself that it is missing there.
 */
export function withoutDoubles(differences: readonly Difference[]): Difference[] {
  const told = new Set(differences.filter((found) => found.missingThere).map(rowOf));
  return differences.filter((found) => found.class !== 'missing' || (!told.has(rowOf(found)) && told.add(rowOf(found))));
}

const rowOf = ({ table, id }: Difference): string => `${table}/${id}`;
