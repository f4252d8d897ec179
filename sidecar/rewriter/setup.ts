/** What both openers' setups share: numbers that count, segments of our own, and what a segment says. */
import { buildSegment, fieldsOf } from '../wire/build.ts';
import { concat } from '../wire/bytes.ts';
import {
  cryptOption,
  layoutCompact,
  parseOptions,
  type TcpOptions,
  timestampsOption,
} from '../wire/options.ts';
import {
  ACK,
  ackNumber,
  flagsOf,
  optionBytes,
  type Packet,
  payloadLength,
  RST,
  seqNumber,
} from '../wire/packet.ts';
import {
  DECLINE,
  encodeSuboptions,
  INIT1,
  INIT2,
  parseSuboptions,
  type Suboption,
  UNKNOWN,
} from '../wire/suboptions.ts';
import type { Connection } from './connection.ts';
import { extend, seqAt } from './offsets.ts';
import type { Rewriter } from './rewriter.ts';

/** A window may be announced up to this (RFC 7323): no offset in setup can be further away. */
const MAX_WINDOW = 2 ** 30;

/** Options of a segment as setup sees them. */
export interface SetupView {
  readonly options: TcpOptions | undefined;
  /** Undefined: no CRYPT option, or one that cannot be read. */
  readonly crypt: readonly Suboption[] | undefined;
  readonly malformed: boolean;
  readonly unknownMandatory: readonly number[];
  readonly hasMac: boolean;
}

export function viewOf(rw: Rewriter, p: Packet): SetupView {
  const options = parseOptions(optionBytes(p), rw.encodings);
  const nothing = { options: undefined, crypt: undefined, unknownMandatory: [], hasMac: false };
  if (options === 'malformed') return { ...nothing, malformed: true };
  const hasMac = options.macs > 0;
  if (options.crypt.length === 0) return { ...nothing, options, malformed: false, hasMac };
  const parsed = parseSuboptions(options.crypt);
  if (parsed === 'malformed') return { ...nothing, options, malformed: true, hasMac };
  return { options, crypt: parsed.list, malformed: false, unknownMandatory: parsed.unknownMandatory, hasMac };
}

export const has = (list: readonly Suboption[] | undefined, opcode: number): boolean =>
  !!list?.some((each) => each.opcode === opcode);

export type Arrival = { readonly offset: number; readonly ackOffset: number } | 'ignore' | 'reset';

/**
 * Whether a segment without SYN counts in setup: its ACK is exactly 1 or acknowledges our INIT, its number
 * is within any window; an RST is exactly at 1. A blind sender decides nothing.
 */
export function arrivalOf(c: Connection, p: Packet): Arrival {
  const flags = flagsOf(p);
  const offset = extend(seqNumber(p), c.isnRemote, 1);
  if (flags & RST) return offset === 1 || (c.rxDelta > 0 && offset === 1 + c.rxDelta) ? 'reset' : 'ignore';
  if (!(flags & ACK)) return 'ignore';
  const ackOffset = extend(ackNumber(p), c.isnLocal, 1);
  const sent = c.initSent ? c.initSent.length : 0;
  if (ackOffset < 1 || ackOffset > 1 + sent) return 'ignore';
  // A keep-alive of a peer that is plain stands one below.
  if (offset < 0 || offset > 1 + MAX_WINDOW) return 'ignore';
  return { offset, ackOffset };
}

/** A segment of our own in setup, or plain after it. Undefined: its options do not fit. */
export function ownSegment(
  c: Connection,
  rw: Rewriter,
  suboptions: readonly Suboption[],
  payload: Uint8Array = new Uint8Array(0),
  flags: number = ACK,
): Packet | undefined {
  const items = c.tsVal === undefined ? [] : [timestampsOption(c.tsVal, c.tsEcho)];
  if (suboptions.length) items.push(cryptOption(encodeSuboptions(suboptions), rw.encodings));
  const options = layoutCompact(items);
  const { template } = c;
  if (!options || !template) return undefined;
  return buildSegment(template, {
    seq: seqAt(c.isnLocal, 1),
    ack: seqAt(c.isnRemote, 1),
    flags,
    window: c.window,
    urgent: 0,
    options,
    payload,
  });
}

/** CRYPT<DECLINE>, with UNKNOWN where a mandatory suboption was not understood. */
export function goodbye(unknownMandatory: readonly number[]): Suboption[] {
  const list: Suboption[] = [{ opcode: DECLINE, data: new Uint8Array(0) }];
  if (unknownMandatory.length)
    list.push({ opcode: UNKNOWN, data: Uint8Array.from(unknownMandatory.slice(0, 8)) });
  return list;
}

/** Option bytes of a segment of ours that carries INIT: how much less than the MSS its data may be. */
export function initOptionBytes(c: Connection, suboptions: readonly Suboption[]): number {
  const timestamps = c.tsVal === undefined ? 0 : 10;
  return Math.ceil((timestamps + 4 + encodeSuboptions(suboptions).length) / 4) * 4;
}

/** Whether a segment carries an INIT by its option. */
export const carriesInit = (list: readonly Suboption[] | undefined): boolean =>
  has(list, INIT1) || has(list, INIT2);

/** The bytes of a segment's data, copied: packets lie in a ring that is used again. */
export const copyOf = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes);

/** The CRYPT bodies of a SYN or SYN-ACK, one after the other. */
export function bodyOf(view: SetupView): Uint8Array {
  return concat(view.options!.crypt);
}

/** A copy of a packet that outlives its batch. */
export function copyPacket(p: Packet): Packet {
  return { ...p, bytes: copyOf(p.bytes) };
}

/** The packet without its data, as template for segments of our own. */
export function headersOf(p: Packet): Packet {
  if (payloadLength(p) === 0) return p;
  return buildSegment(p, { ...fieldsOf(p), payload: new Uint8Array(0) });
}
