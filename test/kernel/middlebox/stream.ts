/** Middleboxes that meddle with the stream: numbers, segment borders, contents. */
import { Buffer } from 'node:buffer';
import { type Flow, note, type Side } from './flows.ts';
import { add, clone, distance, FIN, isSyn, PSH, RST, type TcpPacket } from './packet.ts';
import { type Factory, one } from './transformation.ts';

const other = (side: Side): Side => (side === 'opener' ? 'listener' : 'opener');

/** Gives each side another initial sequence number, acknowledgements and SACK edges alike. */
export const randomiseIsn: Factory =
  () =>
  (packet, { flow, from, random, count }) => {
    const moved = note(flow, 'isn', () => ({
      opener: Math.floor(random() * 2 ** 32),
      listener: Math.floor(random() * 2 ** 32),
    }));
    count('renumbered');
    const back = -moved[other(from)];
    const options = packet.options.map((option) => {
      if (option.kind !== 5) return option;
      const body = Buffer.from(option.body);
      for (let at = 0; at + 4 <= body.length; at += 4)
        body.writeUInt32BE(add(body.readUInt32BE(at), back), at);
      return { kind: 5, body };
    });
    const ack = packet.ack === 0 && isSyn(packet) ? 0 : add(packet.ack, back);
    return one(clone(packet, { seq: add(packet.seq, moved[from]), ack, options }));
  };

/** Cuts data into segments of at most `bytes`, each with all the options of the first. */
export const split: Factory =
  ({ bytes = '500' }) =>
  (packet, { count }) => {
    const size = Number(bytes);
    if (packet.data.length <= size || isSyn(packet)) return one(packet);
    count('split');
    const pieces = [];
    for (let at = 0; at < packet.data.length; at += size) {
      const last = at + size >= packet.data.length;
      pieces.push({
        packet: clone(packet, {
          seq: add(packet.seq, at),
          data: packet.data.subarray(at, at + size),
          flags: last ? packet.flags : packet.flags & ~(FIN | PSH),
        }),
        delayMs: 0,
      });
    }
    return pieces;
  };

/** Holds data for a moment and adds what follows it, up to `bytes`; the first segment's options remain. */
export const coalesce: Factory =
  ({ bytes = '1400', waitMs = '3' }) =>
  (packet, { flow, from, nowMs, count }) => {
    if (isSyn(packet) || packet.flags & RST || (packet.data.length === 0 && !(packet.flags & FIN)))
      return one(packet);
    const held = note(flow, `coalesce ${from}`, (): { packet?: TcpPacket; leavesAt: number } => ({
      leavesAt: 0,
    }));
    const before = held.packet;
    const follows =
      before !== undefined &&
      nowMs < held.leavesAt &&
      add(before.seq, before.data.length) === packet.seq &&
      !(before.flags & FIN) &&
      before.data.length + packet.data.length <= Number(bytes);
    if (follows) {
      count('merged');
      before.data = Buffer.concat([before.data, packet.data]);
      before.flags |= packet.flags;
      before.ack = packet.ack;
      before.window = packet.window;
      return [];
    }
    held.packet = clone(packet);
    held.leavesAt = nowMs + Number(waitMs);
    return [{ packet: held.packet, delayMs: Number(waitMs) }];
  };

interface Memory {
  readonly bytes: Buffer;
  readonly known: Uint8Array;
}

/** "Corrects" what is sent again to the bytes that it saw first, in the first 256 KiB of each direction. */
export const correct: Factory =
  () =>
  (packet, { flow, from, count }) => {
    const offset = offsetOf(packet, flow, from);
    if (offset === undefined || packet.data.length === 0) return one(packet);
    const size = 1 << 18;
    const memory = note(
      flow,
      `correct ${from}`,
      (): Memory => ({ bytes: Buffer.alloc(size), known: new Uint8Array(size) }),
    );
    const data = Buffer.from(packet.data);
    let changed = false;
    for (let i = 0; i < data.length && offset + i < size; i++) {
      const at = offset + i;
      if (!memory.known[at]) {
        memory.known[at] = 1;
        memory.bytes[at] = data[i];
      } else if (memory.bytes[at] !== data[i]) {
        data[i] = memory.bytes[at];
        changed = true;
      }
    }
    if (changed) count('corrected');
    return one(clone(packet, { data }));
  };

/** Passes data only where the stream's first bytes look like HTTP, as a proxy on port 80 does. */
export const httpOnly: Factory =
  ({ port = '80' }) =>
  (packet, { flow, from, count }) => {
    const offset = offsetOf(packet, flow, from);
    const listens = from === 'opener' ? packet.destinationPort : packet.sourcePort;
    if (listens !== Number(port) || packet.data.length === 0 || offset === undefined) return one(packet);
    const verdict = note(flow, `http ${from}`, () => ({ passes: false }));
    if (offset === 1)
      verdict.passes = /^(GET|HEAD|POST|PUT|DELETE|OPTIONS) \S|^HTTP\/1\./.test(
        packet.data.toString('latin1', 0, 16),
      );
    if (verdict.passes) return one(packet);
    count('dropped');
    return [];
  };

/** Position in the stream: the first byte after the SYN is 1. */
function offsetOf(packet: TcpPacket, flow: Flow, from: Side): number | undefined {
  const isn = flow.isn[from];
  if (isn === undefined) return undefined;
  const offset = distance(packet.seq, isn);
  return offset >= 1 ? offset : undefined;
}
