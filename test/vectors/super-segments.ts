/** The vectors of super-segments (wire.md section 6): how they are made, and a second opinion on them. */
import { createHash } from 'node:crypto';
import { suites } from '../../sidecar/crypto/asm.ts';
import { associatedData, macTagOffset } from '../../sidecar/wire/assoc.ts';
import { buildSegment, segmentsOf } from '../../sidecar/wire/build.ts';
import {
  cryptOption,
  layoutCompact,
  macOption,
  type OptionEncodings,
  timestampsOption,
} from '../../sidecar/wire/options.ts';
import { ACK, CWR, FIN, PSH, parsePacket } from '../../sidecar/wire/packet.ts';
import * as second from './second-opinion.ts';

const { bytes, hex } = second;

export interface SuperSegmentCase {
  name: string;
  encoding: 'experimental' | 'legacy';
  isnSender: string;
  isnReceiver: string;
  /** Stream offset of the first byte, and of the acknowledgement. */
  offset: string;
  ackOffset: string;
  plaintext: string;
  /** TCP segments, header and data, checksum zero, as they are on the wire once TSO has cut them. */
  segments: string[];
}

export interface SuperSegmentSuite {
  id: string;
  name: string;
  k: string;
  cases: SuperSegmentCase[];
}

interface Plan {
  readonly name: string;
  readonly offset: number;
  readonly length: number;
  readonly flags: number;
  readonly items: readonly Uint8Array[];
  readonly label?: number;
  readonly encoding?: OptionEncodings['write'];
}

const TIMESTAMPS = timestampsOption(1_000_000, 2_000_000);
const PLANS: readonly Plan[] = [
  { name: 'one segment', offset: 78, length: 3, flags: ACK | PSH, items: [TIMESTAMPS] },
  {
    name: 'several segments',
    offset: 2 ** 16 - 50,
    length: 190,
    flags: ACK | PSH | FIN,
    items: [TIMESTAMPS],
  },
  { name: 'CWR on the first', offset: 2 ** 32 - 100, length: 150, flags: ACK | CWR, items: [TIMESTAMPS] },
  { name: 'REKEY', offset: 2 ** 33 + 5, length: 120, flags: ACK, items: [TIMESTAMPS], label: 7 },
  {
    name: 'no timestamps, legacy kinds',
    offset: 1000,
    length: 100,
    flags: ACK,
    items: [],
    encoding: 'legacy',
  },
];
const ISN_SENDER = 0xffff_ff00;
const ISN_RECEIVER = 0x1234_5678;
const ACK_OFFSET = 2 ** 32 + 77;
/** TCP header and data of a segment. */
const MOST_BYTES = 110;

function makeCase(suiteId: number, k: Uint8Array, plan: Plan): SuperSegmentCase {
  const { name, offset, length, flags, items, label, encoding = 'experimental' } = plan;
  const encodings = { write: encoding, readBoth: false };
  const plaintext = createHash('shake256', { outputLength: length }).update(`super-segment/${name}`).digest();
  const body = Buffer.alloc(20);
  body.writeUInt16BE(offset % 0x10000, 16);
  body.writeUInt16BE(length, 18);
  const crypt = label === undefined ? [] : [cryptOption(Uint8Array.of(0x82, label), encodings)];
  const template = parsePacket(
    bytes('45000028000040004006000000000000000000009c40005000000000000000005000000000000000'),
  );
  if (typeof template === 'string') throw new Error(template);
  const packet = buildSegment(template, {
    seq: (ISN_SENDER + offset) >>> 0,
    ack: (ISN_RECEIVER + ACK_OFFSET) >>> 0,
    flags,
    window: 501,
    urgent: 0,
    options: layoutCompact([...items, macOption(body, encodings), ...crypt])!,
    payload: new Uint8Array(plaintext),
  });
  const asm = suites.get(suiteId)!.asm(k);
  const data = packet.bytes.subarray(packet.payload);
  asm.crypt(offset, data);
  const superSegment = { length: packet.bytes.length - packet.tcp, flags };
  const assoc = associatedData(packet, offset, ISN_RECEIVER, encodings, superSegment);
  packet.bytes.set(asm.tag(data, assoc, ACK_OFFSET), macTagOffset(packet, encodings)!);
  const segments = segmentsOf(packet, MOST_BYTES).map((p) => {
    const segment = p.bytes.slice(p.tcp);
    segment.fill(0, 16, 18);
    return hex(segment);
  });
  const word = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
  return {
    name,
    encoding,
    isnSender: word(ISN_SENDER, 8),
    isnReceiver: word(ISN_RECEIVER, 8),
    offset: word(offset, 16),
    ackOffset: word(ACK_OFFSET, 16),
    plaintext: hex(plaintext),
    segments,
  };
}

/** `k` is a direction's key. */
export function superSegmentVectors(k: Uint8Array): SuperSegmentSuite[] {
  return [...suites.values()]
    .filter(({ aggregate }) => aggregate)
    .map(({ id, name }) => ({
      id: id.toString(16).padStart(8, '0'),
      name,
      k: hex(k),
      cases: PLANS.map((plan) => makeCase(id, k, plan)),
    }));
}

/** From the segments alone, in any order: whether they are whole and verify, and what they say in clear. */
export function secondOpinion(id: string, k: string, c: SuperSegmentCase): string {
  const twin = (Number.parseInt(id, 16) - 1).toString(16).padStart(8, '0');
  const asm = second.asm(twin, bytes(k));
  const offset = BigInt(`0x${c.offset}`);
  const segments = c.segments.map((text) => Buffer.from(text, 'hex'));
  const header = Buffer.from(segments[0]!.subarray(0, (segments[0]![12]! >> 4) * 4));
  let flags = 0;
  const data = Buffer.alloc(c.plaintext.length / 2);
  for (const segment of segments) {
    const relative =
      (segment.readUInt32BE(4) - Number.parseInt(c.isnSender, 16) - Number(offset & 0xffffffffn)) >>> 0;
    flags |= segment[13]!;
    segment.subarray(header.length).copy(data, relative);
  }
  const assoc = Buffer.alloc(20);
  assoc.writeUInt16BE(0x8000, 0);
  assoc.writeUInt16BE(header.length + data.length, 2);
  assoc[4] = header[12]!;
  assoc[5] = flags & 0x7f;
  header.copy(assoc, 6, 14, 16);
  header.copy(assoc, 10, 18, 20);
  assoc.writeBigUInt64BE(offset, 12);
  const options = Buffer.from(header.subarray(20));
  let body = Buffer.alloc(0);
  for (let at = 0; at < options.length && options[at] !== 0; at += options[at] === 1 ? 1 : options[at + 1]!) {
    const kind = options[at]!;
    if (kind === 1) continue;
    const end = at + options[at + 1]!;
    const head = kind === 253 ? 4 : 2;
    if (kind === 70 || (kind === 253 && options.readUInt16BE(at + 2) === 0x544d)) {
      body = Buffer.from(options.subarray(at + head, end));
      options.fill(0, at + head, end);
    } else if (kind === 8) options.fill(0, at + 2, end);
  }
  const tag = asm.tag(data, new Uint8Array([...assoc, ...options]), BigInt(`0x${c.ackOffset}`));
  const says = [body.readUInt16BE(16), body.readUInt16BE(18)];
  if (hex(tag) !== hex(body.subarray(0, 16))) return 'the MAC is wrong';
  if (says[0] !== Number(offset & 0xffffn) || says[1] !== data.length) return 'start or length is wrong';
  return hex(asm.crypt(offset, new Uint8Array(data)));
}
