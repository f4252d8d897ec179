/**
 * Key generations of one encrypted connection: which key a byte is sent under, for ever, and which key a
 * segment is to be verified with. wire.md section 5, "Re-keying"; the draft's 3.7 and 4.3.8. Pure.
 *
 * Invariant: `live` is ascending and without gaps, and holds every generation that either end may still
 * have to retransmit or read.
 */
import type { Asm, Suite } from '../crypto/asm.ts';
import { slabs } from '../wire/bytes.ts';
import { directionKeys, erase, nextMasterKey } from './key-schedule.ts';
import type { Role } from './types.ts';

export interface Generation {
  readonly number: number;
  readonly masterKey: Uint8Array;
  readonly tx: Asm;
  readonly rx: Asm;
  /** Stream offset of the first byte that we send under it; undefined while we do not. */
  txStart: number | undefined;
  /** The peer's bytes from this stream offset on are of this generation or a later one, as far as is known. */
  rxFrom: number | undefined;
}

/** What a verified segment tells about generations. Offsets are on the wire. */
export interface VerifiedSegment {
  readonly labelled: boolean;
  /** Where its data begin, or its number if it has none and stands at the end of what was seen. */
  readonly from: number | undefined;
  /** What it acknowledges of our stream, and the first byte that we have not sent. */
  readonly ackOffset: number;
  readonly nextOffset: number;
  /** The peer's stream is whole below this. */
  readonly received: number;
}

/** So many generations may be alive: one end may be slow to get its bytes through while the other re-keys. */
const MAX_LIVE = 32;

/** What a checkpoint keeps of a generation. */
export interface GenerationRecord {
  readonly number: number;
  readonly masterKey: Uint8Array;
  readonly txStart: number | undefined;
}

export interface GenerationsRecord {
  readonly live: readonly GenerationRecord[];
  readonly txNumber: number;
  readonly rxNumber: number;
  readonly labelling: boolean;
  readonly initiated: boolean;
}

/** Apart from what lives a moment only, which would keep eight times their bytes. */
const masterKeys = slabs(4096);

export class Generations {
  readonly live: Generation[];
  /** The generation that new data is sent under, and the highest that has verified from the peer. */
  txNumber = 0;
  rxNumber = 0;
  /** Our segments of `txNumber` still carry REKEY, and whether it was we who began it. */
  labelling = false;
  initiated = false;
  private readonly suite: Suite;
  private readonly role: Role;

  /**
   * `masterKey` is mk[number]; it is copied and erased. `role` is that of the session's first connection, `txStart` the
   * offset of the first byte that we send.
   */
  constructor(suite: Suite, role: Role, masterKey: Uint8Array, txStart: number | undefined, number = 0) {
    this.suite = suite;
    this.role = role;
    // Not pushed to an empty array, which would take room for sixteen more.
    this.live = [this.make(number, masterKey, txStart)];
  }

  static restore(suite: Suite, role: Role, record: GenerationsRecord): Generations {
    const [oldest, ...later] = record.live;
    const restored = new Generations(suite, role, oldest!.masterKey, oldest!.txStart, oldest!.number);
    for (const each of later) restored.push(each.number, each.masterKey, each.txStart);
    restored.txNumber = record.txNumber;
    restored.rxNumber = record.rxNumber;
    restored.labelling = record.labelling;
    restored.initiated = record.initiated;
    return restored;
  }

  record(): GenerationsRecord {
    const live = this.live.map(({ number, masterKey, txStart }) => ({ number, masterKey, txStart }));
    return {
      live,
      txNumber: this.txNumber,
      rxNumber: this.rxNumber,
      labelling: this.labelling,
      initiated: this.initiated,
    };
  }

  private push(number: number, masterKey: Uint8Array, txStart: number | undefined): Generation {
    const generation = this.make(number, masterKey, txStart);
    this.live.push(generation);
    return generation;
  }

  private make(number: number, key: Uint8Array, txStart: number | undefined): Generation {
    const masterKey = masterKeys(key.length);
    masterKey.set(key);
    erase(key);
    const keys = directionKeys(masterKey);
    const [txKey, rxKey] = this.role === 'C' ? [keys.cs, keys.sc] : [keys.sc, keys.cs];
    const generation = {
      number,
      masterKey,
      tx: this.suite.asm(txKey),
      rx: this.suite.asm(rxKey),
      txStart,
      rxFrom: undefined,
    };
    erase(keys.cs, keys.sc);
    return generation;
  }

  private get(number: number): Generation | undefined {
    return this.live[number - this.live[0]!.number];
  }

  private derive(number: number): Generation {
    return this.get(number) ?? this.push(number, nextMasterKey(this.live.at(-1)!.masterKey), undefined);
  }

  /** The generation of new data and of segments without data. */
  get current(): Generation {
    return this.get(this.txNumber)!;
  }

  /** The generation of the byte at `offset`, and the offset where the next one begins. */
  at(offset: number): { generation: Generation; end: number } {
    let end = Number.POSITIVE_INFINITY;
    for (let i = this.live.length - 1; i >= 0; i--) {
      const generation = this.live[i]!;
      if (generation.txStart === undefined) continue;
      if (generation.txStart <= offset) return { generation, end };
      end = generation.txStart;
    }
    return { generation: this.live[0]!, end };
  }

  /** Whether a segment sent under `generation` says so. An older one always does. */
  needsLabel(generation: Generation): boolean {
    return generation.number !== this.txNumber || this.labelling;
  }

  /** Whether a new generation may begin: both ends have settled on the present one. */
  get settled(): boolean {
    return !this.labelling && this.rxNumber === this.txNumber && this.live.length < MAX_LIVE / 2;
  }

  /** Begins the next generation with the byte at `offset`, which nothing has been sent from yet. */
  initiate(offset: number): void {
    this.raise(this.txNumber + 1, offset, true);
  }

  private raise(number: number, offset: number, initiated: boolean): void {
    const generation = this.derive(number);
    generation.txStart = offset;
    this.txNumber = number;
    this.labelling = true;
    this.initiated = initiated;
  }

  /**
   * The generation to verify a segment with; `label` is REKEY's byte or undefined. Undefined: drop it, for
   * it names one that is gone or more than one above what is known.
   */
  forReceived(label: number | undefined): Generation | undefined {
    if (label === undefined) return this.get(this.rxNumber);
    const known = Math.max(this.txNumber, this.rxNumber);
    const distance = ((label - known) << 24) >> 24;
    if (distance > 1) return undefined;
    const number = known + distance;
    if (number < this.live[0]!.number) return undefined;
    if (!this.get(number) && this.live.length >= MAX_LIVE) return undefined;
    return this.derive(number);
  }

  /** Takes note of a verified segment; returns whether a checkpoint must hold the change before anything leaves. */
  verified(generation: Generation, segment: VerifiedSegment): boolean {
    const { labelled, from, ackOffset } = segment;
    let changed = false;
    if (from !== undefined) generation.rxFrom = Math.min(generation.rxFrom ?? from, from);
    if (generation.number > this.rxNumber) {
      this.rxNumber = generation.number;
      changed = true;
    }
    if (labelled && generation.number > this.txNumber) {
      this.raise(generation.number, segment.nextOffset, false);
      changed = true;
    }
    if (this.labelling && generation.number === this.txNumber) {
      const done = this.initiated ? ackOffset > generation.txStart! : !labelled;
      if (done) {
        this.labelling = false;
        changed = true;
      }
    }
    return this.prune(segment.received, ackOffset) || changed;
  }

  /**
   * Drops what neither end needs: all that we sent under it is acknowledged, and all that the peer sent under
   * it has been received, for the stream is whole up to bytes of a later generation. (wire.md drops receive keys
   * when the peer stops labelling, but then the peer may still have older bytes to repeat.)
   */
  private prune(received: number, ackOffset: number): boolean {
    let changed = false;
    while (this.live.length > 1 && this.live[0]!.number < this.txNumber) {
      const later = this.live.slice(1);
      if (later[0]!.txStart === undefined || later[0]!.txStart > ackOffset) break;
      if (!later.some(({ rxFrom }) => rxFrom !== undefined && rxFrom <= received)) break;
      this.destroyGeneration(this.live.shift()!);
      changed = true;
    }
    return changed;
  }

  private destroyGeneration(generation: Generation): void {
    generation.tx.destroy();
    generation.rx.destroy();
    erase(generation.masterKey);
  }

  destroy(): void {
    for (const generation of this.live.splice(0)) this.destroyGeneration(generation);
  }
}
