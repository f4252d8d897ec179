/** Bad weather: loss, reordering, duplicates, delay; each to a share of the packets, SYNs included. */
import { note } from './flows.ts';
import { clone, isSyn } from './packet.ts';
import { type Factory, one } from './transformation.ts';

/** `after`: the first packets of each flow are spared, so that a lost handshake is not what is seen. */
export const loss: Factory =
  ({ percent = '3', after = '0' }) =>
  (packet, { flow, random, count }) => {
    const seen = note(flow, 'loss', () => ({ packets: 0 }));
    if (seen.packets++ < Number(after) || random() * 100 >= Number(percent)) return one(packet);
    count('lost');
    return [];
  };

export const duplicate: Factory =
  ({ percent = '10', delayMs = '2' }) =>
  (packet, { random, count }) => {
    if (random() * 100 >= Number(percent)) return one(packet);
    count('duplicated');
    return [...one(packet), { packet: clone(packet), delayMs: Number(delayMs) }];
  };

export const reorder: Factory =
  ({ percent = '10', delayMs = '3' }) =>
  (packet, { random, count }) => {
    if (random() * 100 >= Number(percent)) return one(packet);
    count('reordered');
    return [{ packet, delayMs: Number(delayMs) }];
  };

export const delay: Factory =
  ({ delayMs = '10' }) =>
  (packet) => [{ packet, delayMs: Number(delayMs) }];

/** Loses the first packets after the SYN that one side of each flow sends. */
export const loseFirst: Factory =
  ({ from: side = 'opener', packets = '1' }) =>
  (packet, { flow, from, count }) => {
    const lost = note(flow, 'lost', () => ({ packets: 0 }));
    if (from !== side || isSyn(packet) || lost.packets >= Number(packets)) return one(packet);
    lost.packets++;
    count('lost');
    return [];
  };
