/**
 * A host: model TCP above, packet filter and rewriter below. The filter does what `netfilter/rules.ts` and
 * `sidecar/runtime/packet-loop.ts` do together: marks per connection, a setup queue that is passed by and a
 * data queue that drops while no rewriter listens.
 */

import type {
  ConnectionMark,
  Direction,
  Output,
  RewriterMachine,
  Verdict,
} from '../../sidecar/rewriter/types.ts';
import type { Clock, Timer } from './clock.ts';
import { ACK, completeChecksum, decode, FIN, listOptions, RST, type Segment, SYN } from './segment.ts';
import { cut, Gro, type HostPacket } from './super-segment.ts';
import type { TcpHost } from './tcp-host.ts';

export interface HostEvents {
  /** A packet leaves the host; `from` tells the rewriter's own from the kernel's. */
  leaves(bytes: Uint8Array): void;
  /** A packet is given to the kernel's TCP; checked before it is processed. */
  enters(bytes: Uint8Array): void;
  queued(direction: Direction, bytes: Uint8Array, mark: ConnectionMark): void;
  broken(property: string, detail: string): void;
}

/** What a netlink attribute can carry. */
const MAX_VERDICT_BYTES = 65_531;

/** A packet that waits for its verdict. */
interface Queued extends HostPacket {
  readonly direction: Direction;
  /** Passes when nobody listens. */
  readonly bypass: boolean;
  readonly mark: ConnectionMark;
  readonly entry: Entry | undefined;
  readonly name: string;
}

interface Entry {
  /** The connmark's state; `asked` while a SYN or SYN-ACK is, or was, in the setup queue undecided. */
  state: ConnectionMark | 'asked';
  readonly fins: Set<Direction>;
  reset: boolean;
  /** What each direction acknowledged last, as conntrack sees it: before our translation. */
  readonly acked: { in?: number; out?: number };
  /** It is in conntrack's table only when the packet that it came with has gone on (__nf_conntrack_confirm). */
  confirmed: boolean;
}

export class FilteredHost implements Output {
  tcp!: TcpHost;
  machine: RewriterMachine | undefined;
  /** The rewriter's process is not there. */
  down = false;
  readonly pending = new Map<number, Queued>();
  /** Super-segments that the rewriter got whole, by direction. */
  readonly superSegments = { in: 0, out: 0 };
  private readonly gro: Gro | undefined;
  private readonly entries = new Map<string, Entry>();
  private token = 0;
  private timer: Timer | undefined;
  private depth = 0;
  private spins = 0;
  private lastWake = -1;

  private readonly clock: Clock;
  private readonly kinds: ReadonlySet<number>;
  /** A packet waits so long in the queue: its mark, and what the kernel knew, are that old. */
  private readonly queueDelayMs: number;
  private readonly strict: boolean;
  private readonly events: HostEvents;

  constructor(
    clock: Clock,
    kinds: ReadonlySet<number>,
    queueDelayMs: number,
    strict: boolean,
    gro: boolean,
    events: HostEvents,
  ) {
    this.gro = gro ? new Gro((packet) => this.pass('in', packet)) : undefined;
    this.clock = clock;
    this.kinds = kinds;
    this.queueDelayMs = queueDelayMs;
    this.strict = strict;
    this.events = events;
  }

  /** From the kernel, on its way out. */
  out(packet: HostPacket): void {
    this.pass('out', packet);
  }

  /** From the network. */
  in(bytes: Uint8Array, seesDamaged: boolean): void {
    const segment = decode(bytes);
    if (typeof segment === 'string') {
      if (seesDamaged) this.pass('in', { bytes, gsoBytes: undefined });
    } else if (this.gro?.take(bytes, segment)) {
      // What comes at the same moment is looked at together.
      this.clock.after(0, () => this.gro!.flush());
    } else {
      this.pass('in', { bytes, gsoBytes: undefined });
    }
  }

  private pass(direction: Direction, packet: HostPacket): void {
    if (this.machine === undefined && !this.down) {
      this.forward(direction, packet);
      return;
    }
    const segment = decode(packet.bytes);
    if (typeof segment === 'string') {
      // conntrack has no entry for a damaged segment: it goes to the data queue without state.
      this.enqueue(direction, packet, { mark: 'none', bypass: false, entry: undefined, name: '' });
      return;
    }
    const name = nameOf(direction, segment);
    const entry = this.entryOf(name, direction, segment);
    const { state } = entry;
    const syn = (segment.flags & SYN) !== 0;
    const ours = listOptions(segment.options).some((option) => this.kinds.has(option.kind));
    const enqueue = (mark: ConnectionMark, bypass: boolean): void =>
      this.enqueue(direction, packet, { mark, bypass, entry, name });
    if (state === 'tcpcrypt' || state === 'superSegment') enqueue(state, false);
    else if (syn && state !== 'plain') {
      if (!this.strict) entry.state = 'asked';
      enqueue(state === 'none' ? 'none' : 'offered', !this.strict);
    } else if (state === 'none') enqueue('none', false);
    else if (ours && !syn) enqueue(state === 'asked' ? 'none' : 'plain', false);
    else if (state === 'asked') enqueue('none', true);
    else this.confirmed(name, entry) && this.forward(direction, packet);
  }

  /**
   * Whether a packet may go on: an entry that was made for it must not clash with one that came into the table
   * while it waited. (TCP's clashes are not resolved; nf_ct_resolve_clash.)
   */
  private confirmed(name: string, entry: Entry): boolean {
    if (entry.confirmed) return true;
    if (this.entries.has(name)) return false;
    entry.confirmed = true;
    this.entries.set(name, entry);
    return true;
  }

  /** A queue without GSO gets a super-segment as segments, each with its own verdict. */
  private enqueue(
    direction: Direction,
    packet: HostPacket,
    how: Omit<Queued, keyof HostPacket | 'direction'>,
  ): void {
    if (this.down) {
      if (how.bypass && this.confirmed(how.name, how.entry!)) this.forward(direction, packet);
      return;
    }
    if (how.mark === 'superSegment' || packet.gsoBytes === undefined) {
      this.enqueueOne(direction, packet, how);
    } else {
      for (const bytes of cut(packet)) this.enqueueOne(direction, { bytes, gsoBytes: undefined }, how);
    }
  }

  private enqueueOne(
    direction: Direction,
    { bytes, gsoBytes }: HostPacket,
    how: Omit<Queued, keyof HostPacket | 'direction'>,
  ): void {
    const token = ++this.token;
    this.pending.set(token, { direction, bytes: bytes.slice(), gsoBytes, ...how });
    const superSegment = gsoBytes !== undefined;
    // Of what GRO has joined, the checksum was checked and is not what the header says.
    const offload = { superSegment, checksumLater: superSegment };
    if (superSegment) this.superSegments[direction]++;
    const handle = (): void => {
      if (!this.pending.has(token)) return;
      this.events.queued(direction, bytes, how.mark);
      const given = bytes.slice();
      if (superSegment) spoilChecksum(given);
      this.call((machine) => machine.handle(direction, given, token, how.mark, this.clock.now, offload));
    };
    if (this.queueDelayMs === 0) handle();
    else this.clock.after(this.queueDelayMs, handle);
  }

  private entryOf(name: string, direction: Direction, segment: Segment): Entry {
    const { flags } = segment;
    let entry = this.entries.get(name);
    const begins = (flags & (SYN | ACK | RST)) === SYN;
    if (entry === undefined || (begins && (entry.reset || entry.fins.size === 2))) {
      this.entries.delete(name);
      entry = { state: 'none', fins: new Set(), reset: false, acked: {}, confirmed: false };
    }
    // nf_conntrack_proto_tcp: an RST closes an established entry only with the number last acknowledged.
    const { in: ackIn, out: ackOut } = entry.acked;
    const acked = direction === 'in' ? ackOut : ackIn;
    const established = ackIn !== undefined && ackOut !== undefined;
    if (flags & RST && (!established || segment.seq === acked)) entry.reset = true;
    if (flags & FIN) entry.fins.add(direction);
    if (flags & ACK) entry.acked[direction] = segment.ack;
    return entry;
  }

  /** conntrack forgets a connection: a timeout, a full table, an administrator. */
  forgetMarks(): void {
    this.entries.clear();
  }

  private forward(direction: Direction, packet: HostPacket): void {
    const { bytes } = packet;
    if (direction === 'out') for (const each of cut(packet)) this.events.leaves(each);
    else {
      this.events.enters(bytes);
      this.tcp.input(bytes);
    }
  }

  verdict(token: number, verdict: Verdict): void {
    const packet = this.pending.get(token);
    if (packet === undefined) {
      this.events.broken('one verdict a packet', `token ${token} was answered twice, or never queued`);
      return;
    }
    this.pending.delete(token);
    if (verdict.kind === 'drop') return;
    const { name, direction, gsoBytes } = packet;
    // Sent afresh it finds the entry that is there by now, or makes one at once.
    const entry = verdict.afresh ? (this.entries.get(name) ?? packet.entry) : packet.entry;
    if (entry !== undefined) {
      if (!this.confirmed(name, entry)) return;
      if (verdict.mark !== undefined) entry.state = verdict.mark === 'none' ? 'offered' : verdict.mark;
    }
    const bytes = verdict.bytes === undefined ? packet.bytes : verdict.bytes.slice();
    if (bytes.length > MAX_VERDICT_BYTES) {
      this.events.broken('a verdict fits its message', `${bytes.length} bytes`);
      return;
    }
    // GSO makes a checksum anew that is not marked as unfinished (Linux, tcp4_gso_segment).
    if (direction === 'out' && gsoBytes !== undefined) completeChecksum(bytes);
    const segment = decode(bytes);
    const { length } = typeof segment === 'string' ? bytes : segment.payload;
    if (direction === 'out' && gsoBytes !== undefined && length <= gsoBytes) {
      this.events.broken(
        'a super-segment stays one',
        `${length} bytes of data are left for segments of ${gsoBytes}: the kernel drops that`,
      );
      return;
    }
    this.later(direction, { bytes, gsoBytes });
  }

  inject(to: 'network' | 'kernel', bytes: Uint8Array): void {
    this.later(to === 'network' ? 'out' : 'in', { bytes: bytes.slice(), gsoBytes: undefined });
  }

  private readonly backlog: { direction: Direction; packet: HostPacket }[] = [];

  /** What a call puts out takes effect when the call has returned: the kernel does not run inside the rewriter. */
  private later(direction: Direction, packet: HostPacket): void {
    this.backlog.push({ direction, packet });
    if (this.depth === 0) this.drain();
  }

  private drain(): void {
    for (let next = this.backlog.shift(); next !== undefined; next = this.backlog.shift()) {
      const { direction, packet } = next;
      this.forward(direction, packet);
    }
  }

  /** Runs one call into the rewriter, then what it put out. */
  call(run: (machine: RewriterMachine) => void): void {
    const { machine } = this;
    if (machine === undefined) return;
    this.depth++;
    try {
      run(machine);
    } finally {
      this.depth--;
    }
    if (this.depth === 0) this.drain();
    this.rearm();
  }

  rearm(): void {
    if (this.timer !== undefined) this.timer.cancelled = true;
    const at = this.machine?.nextTimeout();
    if (at === undefined) return;
    this.spins = at <= this.clock.now && this.lastWake === this.clock.now ? this.spins + 1 : 0;
    if (this.spins > 50) {
      this.events.broken(
        'timers come to rest',
        `nextTimeout() stays at ${at} after advance(${this.clock.now})`,
      );
      return;
    }
    this.timer = this.clock.schedule(Math.ceil(at), () => {
      this.lastWake = this.clock.now;
      this.call((machine) => machine.advance(this.clock.now));
    });
  }

  /** The process dies: what it held is lost. */
  crash(): void {
    this.machine = undefined;
    this.down = true;
    this.pending.clear();
    if (this.timer !== undefined) this.timer.cancelled = true;
  }
}

/** What a header holds while the kernel, or the device, has yet to compute the checksum. */
function spoilChecksum(bytes: Uint8Array): void {
  bytes[(bytes[0]! >> 4 === 4 ? 20 : 40) + 16]! ^= 0xa5;
}

function nameOf(direction: Direction, segment: Segment): string {
  return direction === 'out'
    ? `${segment.sport}>${segment.dst}:${segment.dport}`
    : `${segment.dport}>${segment.src}:${segment.sport}`;
}
