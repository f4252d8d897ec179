/**
 * An attacker off the path: it knows addresses and ports, not the numbers. Beside the true packets it
 * sends RST, SYN and data whose sequence or acknowledgement numbers lie far outside every window.
 */
import { Buffer } from 'node:buffer';
import { note } from './flows.ts';
import { ACK, add, clone, isSyn, PSH, RST, SYN, type TcpPacket } from './packet.ts';
import { type Departure, type Factory, one } from './transformation.ts';

/** Half of the sequence space away less a little: outside any window, on either side. */
const FAR = 0x50000000;
const GARBAGE = Buffer.from('forged bytes that no application may ever see');
/** CRYPT<DECLINE> in the experimental encoding. */
const DECLINE = { kind: 253, body: Buffer.from([0x54, 0x43, 0x04]) };

/** Forges after each of the first `packets` packets of a flow, towards the side that the packet went to. */
export const forge: Factory =
  ({ packets = '40' }) =>
  (packet, { flow, count }) => {
    const seen = note(flow, 'forged', () => ({ packets: 0 }));
    if (seen.packets++ >= Number(packets) || packet.flags & RST) return one(packet);
    const forged = isSyn(packet) ? forgedAnswers(packet) : forgedSegments(packet);
    for (const _ of forged) count('forged');
    // Before the true packet and after it: neither order may matter.
    const leave =
      (delayMs: number) =>
      (each: TcpPacket): Departure => ({ packet: each, delayMs });
    return [...forged.map(leave(0)), ...one(packet), ...forged.map((each) => clone(each)).map(leave(1))];
  };

function forgedSegments(packet: TcpPacket): TcpPacket[] {
  const bare = { options: [], data: Buffer.alloc(0) };
  const seq = add(packet.seq, FAR);
  const ack = add(packet.ack, FAR);
  return [
    clone(packet, { ...bare, flags: RST, seq }),
    clone(packet, { ...bare, flags: RST | ACK, seq, ack }),
    clone(packet, { ...bare, flags: SYN, seq, ack: 0 }),
    clone(packet, { options: [], flags: ACK | PSH, seq, data: GARBAGE }),
    clone(packet, { options: [DECLINE], flags: ACK, seq, ack, data: Buffer.alloc(0) }),
  ];
}

/** To the sender of a SYN or SYN-ACK, which waits for an answer, and to its receiver. */
function forgedAnswers(packet: TcpPacket): TcpPacket[] {
  const back = clone(packet, {
    source: packet.destination,
    destination: packet.source,
    sourcePort: packet.destinationPort,
    destinationPort: packet.sourcePort,
    options: [],
    data: Buffer.alloc(0),
  });
  const wrong = { seq: add(packet.ack, FAR), ack: add(packet.seq, FAR) };
  return [
    clone(back, { ...wrong, flags: RST | ACK }),
    clone(back, { ...wrong, flags: ACK | PSH, data: GARBAGE }),
    clone(back, { ...wrong, flags: ACK, options: [DECLINE] }),
  ];
}
