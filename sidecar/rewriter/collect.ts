/**
 * Segments of super-segments, put together before anything else looks at them (wire.md section 6). What GRO gave
 * whole passes through as it is.
 */
import { Reassembly, type WholeSuperSegment } from '../protocol/reassembly.ts';
import { buildSegment, fieldsOf } from '../wire/build.ts';
import { read16 } from '../wire/bytes.ts';
import { ecnOf, withEcn } from '../wire/ecn.ts';
import { AGGREGATE_MAC_BYTES, MAC_TAG_BYTES, parseOptions } from '../wire/options.ts';
import {
  ACK,
  ackNumber,
  CWR,
  FIN,
  flagsOf,
  optionBytes,
  type Packet,
  PSH,
  payloadLength,
  payloadOf,
  seqNumber,
  urgentOf,
  windowOf,
} from '../wire/packet.ts';
import type { Connection } from './connection.ts';
import { extend, seqAt, toWire } from './offsets.ts';
import type { Rewriter } from './rewriter.ts';

/** Further from what the kernel has, or has sent, than any window reaches: nobody's but a blind sender's. */
const MAX_DISTANCE = 2 ** 26;

/**
 * The packet to verify: `p` itself where it has no data or all of its super-segment, else the super-segment that it
 * completes. Undefined: it waits for others, or is not one of them, and its token is answered.
 */
export function collect(rw: Rewriter, c: Connection, p: Packet, token: number): Packet | undefined {
  const length = payloadLength(p);
  if (!c.secured!.aggregate || length === 0) return p;
  const options = parseOptions(optionBytes(p), rw.encodings);
  const mac = options === 'malformed' || options.macs !== 1 ? undefined : options.mac;
  // The wrong form for its kind, or none: `open` refuses it.
  if (mac?.length !== AGGREGATE_MAC_BYTES) return p;
  const offset = extend(seqNumber(p), c.isnRemote, c.rxNext);
  const start = offset - ((offset - read16(mac, MAC_TAG_BYTES)) & 0xffff);
  const wholeLength = read16(mac, MAC_TAG_BYTES + 2);
  if (offset === start && length === wholeLength) return p;
  if (offset + length > start + wholeLength || !isNear(c, p, offset)) {
    rw.drop(token, 'super_segment');
    return undefined;
  }

  const flags = flagsOf(p);
  c.reassembly ??= new Reassembly();
  const { bytes } = c.reassembly;
  const answer = c.reassembly.add(
    {
      options: Buffer.from(optionBytes(p)).toString('latin1'),
      header: `${ackNumber(p)} ${windowOf(p)} ${urgentOf(p)} ${flags & ~(PSH | FIN | CWR)}`,
      start,
      length: wholeLength,
      offset,
      payload: payloadOf(p),
      flags,
      ecn: ecnOf(p),
    },
    rw.now,
  );
  rw.noteCollecting(c, bytes);
  if (answer === 'disagrees') rw.drop(token, 'super_segment');
  else if (answer === 'waits') rw.goesOnElsewhere(token);
  else return wholePacket(c, p, answer);
  return undefined;
}

/** Whether a segment could be one of the peer's: what is not verified yet may cost a connection's own nothing. */
function isNear(c: Connection, p: Packet, offset: number): boolean {
  if (!(flagsOf(p) & ACK)) return false;
  const ackOffset = extend(ackNumber(p), c.isnLocal, c.txNext);
  const received = toWire(c.kernelAck, c.rxDelta);
  return (
    Math.abs(offset - received) <= MAX_DISTANCE &&
    ackOffset <= c.txNext &&
    ackOffset >= Math.max(1, c.txAcked - MAX_DISTANCE)
  );
}

function wholePacket(c: Connection, last: Packet, { start, payload, flags, ecn }: WholeSuperSegment): Packet {
  const seq = seqAt(c.isnRemote, start);
  return withEcn(buildSegment(last, { ...fieldsOf(last), seq, flags, payload }), ecn);
}
