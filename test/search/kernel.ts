/**
 * The least that a kernel's TCP is, for the search: it opens, acknowledges, sends its few bytes and takes what
 * comes, in any order. Everything it takes at an offset it keeps, so that a wrong byte is seen.
 */
import { layoutLinux, mssOption } from '../../sidecar/wire/options.ts';
import {
  ACK,
  ackNumber,
  flagsOf,
  type Packet,
  PSH,
  payloadOf,
  RST,
  SYN,
  seqNumber,
} from '../../sidecar/wire/packet.ts';
import { makePacket } from '../../sidecar/wire/testing.ts';

export type KernelState = 'closed' | 'syn_sent' | 'syn_received' | 'established' | 'reset';

const WINDOW = 5000;

export class Kernel {
  state: KernelState;
  /** The next byte that the application has not sent, and that it has not received. */
  sent = 0;
  received = 1;
  peerIsn = 0;
  /** Bytes by offset, as they came. */
  readonly taken = new Map<number, number>();
  wrong: string | undefined;
  readonly isn: number;
  private readonly address: string;
  private readonly peer: string;
  private readonly port: number;
  private readonly peerPort: number;
  private readonly stream: string;
  private readonly peerStream: string;

  constructor(active: boolean, stream: string, peerStream: string) {
    this.state = active ? 'syn_sent' : 'closed';
    this.isn = active ? 5000 : 80_000;
    [this.address, this.peer] = active ? ['10.0.0.1', '10.0.0.2'] : ['10.0.0.2', '10.0.0.1'];
    [this.port, this.peerPort] = active ? [40_000, 80] : [80, 40_000];
    this.stream = stream;
    this.peerStream = peerStream;
  }

  private packet(offset: number, flags: number, data = ''): Packet {
    return makePacket({
      version: 4,
      source: this.address,
      destination: this.peer,
      sourcePort: this.port,
      destinationPort: this.peerPort,
      seq: this.isn + offset,
      ack: flags & ACK ? this.peerIsn + this.received : 0,
      flags,
      window: WINDOW,
      options: layoutLinux(flags & SYN ? [mssOption(1460)] : [])!,
      payload: Buffer.from(data),
    });
  }

  syn(): Packet {
    return this.packet(0, SYN);
  }

  synAck(): Packet {
    return this.packet(0, SYN | ACK);
  }

  /** The application's bytes from `from` on, `length` of them, as one segment. */
  data(from: number, length: number): Packet {
    this.sent = Math.max(this.sent, from + length);
    return this.packet(1 + from, ACK | PSH, this.stream.slice(from, from + length));
  }

  /** Takes a packet; returns what the kernel answers. */
  take(p: Packet): Packet[] {
    const flags = flagsOf(p);
    const acks = ((ackNumber(p) - this.isn) | 0) as number;
    if (this.state === 'reset') return [];
    if (this.state === 'syn_sent') {
      if (!(flags & ACK) || acks !== 1) return [];
      if (flags & RST) this.state = 'reset';
      if (flags & RST || !(flags & SYN)) return [];
      this.peerIsn = seqNumber(p);
      this.state = 'established';
      return [this.packet(1, ACK)];
    }
    if (flags & SYN) {
      if (flags & ACK) return this.state === 'closed' ? [] : [this.packet(1 + this.sent, ACK)];
      if (this.state === 'closed') this.peerIsn = seqNumber(p);
      if (seqNumber(p) !== this.peerIsn) return [];
      if (this.state === 'established') return [this.packet(1 + this.sent, ACK)];
      this.state = 'syn_received';
      return [this.synAck()];
    }
    if (this.state === 'closed') return [];
    const offset = (seqNumber(p) - this.peerIsn) | 0;
    if (flags & RST) {
      if (offset === this.received) this.state = 'reset';
      return [];
    }
    if (!(flags & ACK) || acks < 1 || acks > 1 + this.sent) return [];
    if (this.state === 'syn_received') this.state = 'established';
    const data = payloadOf(p);
    for (let i = 0; i < data.length; i++) this.takeByte(offset + i, data[i]!);
    while (this.taken.has(this.received)) this.received++;
    return data.length ? [this.packet(1 + this.sent, ACK)] : [];
  }

  private takeByte(offset: number, byte: number): void {
    if (offset < 1 || offset > WINDOW || this.taken.has(offset)) return;
    this.taken.set(offset, byte);
    if (byte !== this.peerStream.charCodeAt(offset - 1)) this.wrong = `byte ${byte} at offset ${offset}`;
  }

  fingerprint(): string {
    return `${this.state} ${this.sent} ${[...this.taken.keys()].sort((a, b) => a - b)} ${this.wrong ?? ''}`;
  }
}
