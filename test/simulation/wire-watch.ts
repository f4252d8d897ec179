/**
 * What one end may put on the wire, and what its kernel may be given: the checks that look at every packet.
 * One instance a socket. Wire offsets count from the socket's ISN, which no rewriter changes.
 */

import { looksLikePattern } from './application.ts';
import { listOptions, type Segment, SYN } from './segment.ts';

export type Report = (property: string, detail: string) => void;

export interface OptionKinds {
  readonly legacy: boolean;
}

/** Which of our two options a segment has. */
export function ourOptions(
  segment: Segment,
  kinds: OptionKinds,
): { crypt: Uint8Array | undefined; mac: boolean } {
  let crypt: Uint8Array | undefined;
  let mac = false;
  for (const { kind, bytes } of listOptions(segment.options)) {
    if (kinds.legacy) {
      if (kind === 69) crypt = bytes.subarray(2);
      if (kind === 70) mac = true;
    } else if (kind === 253 && bytes.length >= 4 && bytes[2] === 0x54) {
      if (bytes[3] === 0x43) crypt = bytes.subarray(4);
      if (bytes[3] === 0x4d) mac = true;
    }
  }
  return { crypt, mac };
}

/** Keystream pieces seen in the whole run, by value: whose they are. */
export type KeystreamLog = Map<number, string>;

export class WireWatch {
  /** This end has been reported encrypted. */
  encrypted = false;
  plain = false;
  sentCiphertext = false;
  /** Length of our INIT message on the wire. */
  initBytes = 0;
  init: Uint8Array | undefined;
  private cipher = new Int16Array(0);

  private readonly name: string;
  private readonly iss: number;
  private readonly stream: Uint8Array;
  private readonly kinds: OptionKinds;
  private readonly keystream: KeystreamLog;
  private readonly report: Report;

  constructor(
    name: string,
    iss: number,
    stream: Uint8Array,
    kinds: OptionKinds,
    keystream: KeystreamLog,
    report: Report,
  ) {
    this.name = name;
    this.iss = iss;
    this.stream = stream;
    this.kinds = kinds;
    this.keystream = keystream;
    this.report = report;
  }

  leaves(segment: Segment, strict: boolean): void {
    const { crypt, mac } = ourOptions(segment, this.kinds);
    const { payload } = segment;
    if (segment.flags & SYN) return;
    if (crypt !== undefined && payload.length > 0 && !mac && (crypt.includes(0x07) || crypt.includes(0x08))) {
      this.sendsInit(payload);
      return;
    }
    if (this.encrypted && !mac) {
      const readable = payload.length > 0 ? `${payload.length} bytes of data` : 'no data';
      if (payload.length > 0 || !this.mayBeBare(segment)) {
        this.report(
          'no plaintext once encrypted',
          `${this.name} sent a segment without MAC, with ${readable}`,
        );
      }
    }
    if (strict && !mac && looksLikePattern(payload)) {
      this.report('strict mode sends no plaintext', `${this.name} sent ${payload.length} bytes in clear`);
    }
    if (!mac || payload.length === 0) return;
    this.sentCiphertext = true;
    if (looksLikePattern(payload))
      this.report('no plaintext once encrypted', `${this.name}: the data under a MAC is clear`);
    this.ciphertext(segment);
  }

  /** A reset of a socket that is gone, which a kernel sends without state, is not the rewriter's business. */
  private mayBeBare(segment: Segment): boolean {
    return (segment.flags & 4) !== 0;
  }

  private sendsInit(payload: Uint8Array): void {
    if (this.init !== undefined && !Buffer.from(this.init).equals(payload)) {
      this.report('INIT is repeated unchanged', `${this.name} sent two different INIT messages`);
    }
    if (this.encrypted && this.sentCiphertext && this.init === undefined) {
      this.report('INIT before ciphertext', `${this.name} sent INIT after ciphertext`);
    }
    this.init = payload;
    this.initBytes = payload.length;
  }

  private ciphertext(segment: Segment): void {
    const { payload } = segment;
    const from = 1 + ((segment.seq - this.iss - 1) | 0);
    if (from < 1) {
      this.report('one ciphertext a byte', `${this.name} sent data at offset ${from}, before its stream`);
      return;
    }
    if (from + payload.length > this.cipher.length) {
      const larger = new Int16Array(Math.max(2048, 2 * (from + payload.length))).fill(-1);
      larger.set(this.cipher);
      this.cipher = larger;
    }
    for (let i = 0; i < payload.length; i++) {
      const known = this.cipher[from + i]!;
      if (known >= 0 && known !== payload[i]) {
        this.report('one ciphertext a byte', `${this.name}: offset ${from + i} left as two different bytes`);
        return;
      }
      this.cipher[from + i] = payload[i]!;
    }
    this.compareKeystream(from, payload);
  }

  /** Six bytes of keystream at every eighth offset; a second owner of the same six is a key used twice. */
  private compareKeystream(from: number, payload: Uint8Array): void {
    for (let at = (from + 7) & ~7; at + 6 <= from + payload.length && at < 4096; at += 8) {
      let value = 0;
      const clear = at - this.initBytes - 1;
      if (clear < 0 || clear + 6 > this.stream.length) continue;
      for (let i = 0; i < 6; i++) value = value * 256 + (payload[at - from + i]! ^ this.stream[clear + i]!);
      const owner = `${this.name} at ${at}`;
      const known = this.keystream.get(value);
      if (known === undefined) this.keystream.set(value, owner);
      else if (known !== owner)
        this.report('no keystream byte twice', `${owner} and ${known} share keystream`);
    }
  }
}

/** Whether `payload` begins with, or lies inside, one of the INIT messages. */
export function isInitPart(payload: Uint8Array, inits: readonly Uint8Array[]): boolean {
  if (payload.length < 6) return false;
  return inits.some((init) => Buffer.from(init).includes(payload.subarray(0, Math.min(payload.length, 24))));
}
