/** Middleboxes that dislike TCP options: strip, drop, cut, rewrite. */
import { Buffer } from 'node:buffer';
import { note, type Side } from './flows.ts';
import { add, cleared, clone, isSyn, KNOWN_KINDS, type TcpOption, type TcpPacket } from './packet.ts';
import { type Factory, one } from './transformation.ts';

type Stage = 'syn' | 'established' | 'both';
type From = Side | 'both';

const TIMESTAMPS = 8;
const unknown = (option: TcpOption): boolean => !KNOWN_KINDS.has(option.kind);

function concerns(packet: TcpPacket, from: Side, when: Stage, side: From): boolean {
  if (side !== 'both' && side !== from) return false;
  return (when === 'both' || (when === 'syn') === isSyn(packet)) && packet.options.some(unknown);
}

/** Clears unknown options. `cut`: of a segment so treated only the first half of the data goes on. */
export const stripOptions: Factory =
  ({ when = 'both', from: side = 'both', cut = 'no' }) =>
  (packet, { from, count }) => {
    if (!concerns(packet, from, when as Stage, side as From)) return one(packet);
    count('stripped');
    const options = packet.options.flatMap((option) => (unknown(option) ? cleared(option) : [option]));
    if (cut === 'no' || packet.data.length < 2) return one(clone(packet, { options }));
    count('cut');
    return one(clone(packet, { options, data: packet.data.subarray(0, packet.data.length >> 1) }));
  };

/** Drops segments that have unknown options. */
export const dropOptions: Factory =
  ({ when = 'both', from: side = 'both' }) =>
  (packet, { from, count }) => {
    if (!concerns(packet, from, when as Stage, side as From)) return one(packet);
    count('dropped');
    return [];
  };

/** Clears the timestamps option everywhere, SYNs included, so that neither end uses it. */
export const stripTimestamps: Factory =
  () =>
  (packet, { count }) => {
    if (!packet.options.some((option) => option.kind === TIMESTAMPS)) return one(packet);
    count('stripped');
    const options = packet.options.flatMap((option) =>
      option.kind === TIMESTAMPS ? cleared(option) : [option],
    );
    return one(clone(packet, { options }));
  };

/** Moves each side's timestamps by a random amount, and the echoes back. */
export const rewriteTimestamps: Factory =
  () =>
  (packet, { flow, from, count, random }) => {
    const moved = note(flow, 'timestamps', () => ({
      opener: Math.floor(random() * 2 ** 31),
      listener: Math.floor(random() * 2 ** 31),
    }));
    const other = from === 'opener' ? 'listener' : 'opener';
    const options = packet.options.map((option) => {
      if (option.kind !== TIMESTAMPS || option.body.length !== 8) return option;
      count('rewritten');
      const body = Buffer.from(option.body);
      body.writeUInt32BE(add(body.readUInt32BE(0), moved[from]), 0);
      const echo = body.readUInt32BE(4);
      // A SYN echoes nothing, and says 0.
      if (echo !== 0 || !isSyn(packet)) body.writeUInt32BE(add(echo, -moved[other]), 4);
      return { kind: TIMESTAMPS, body };
    });
    return one(clone(packet, { options }));
  };
