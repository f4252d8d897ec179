/** Helpers for the tests of the rewriter: two ends, driven packet by packet, with nothing between. */
import { randomBytes } from 'node:crypto';
import { DEFAULT_SUITES } from '../../policy/algorithms.ts';
import { keyExchanges } from '../crypto/key-exchange.ts';
import { layoutLinux, mssOption, timestampsOption } from '../wire/options.ts';
import { ACK, type Packet, parsePacket, payloadOf, SYN } from '../wire/packet.ts';
import { makePacket } from '../wire/testing.ts';
import { Rewriter } from './rewriter.ts';
import type {
  CheckpointStore,
  ConnectionMark,
  Decision,
  Direction,
  Offload,
  Policy,
  RewriterOptions,
  Verdict,
} from './types.ts';

export interface Injection {
  readonly to: 'network' | 'kernel';
  readonly packet: Packet;
}

export type DecidedEvent = Parameters<RewriterOptions['observer']['decided']>[0];

/** A policy that decides the same for all. */
export function testPolicy(decision: Partial<Decision> = {}, other: Partial<Policy> = {}): Policy {
  return {
    generation: 'test',
    decide: () => ({ mode: 'Opportunistic', authentication: 'Optional', ...decision }),
    keyExchanges: [0x202],
    suites: DEFAULT_SUITES,
    sessionCache: { enabled: true, maxEntries: 100, lifetimeMs: 3_600_000 },
    rekey: { afterBytes: 2 ** 36, afterMs: Number.POSITIVE_INFINITY },
    rstCheck: false,
    ...other,
  };
}

export class MemoryStore implements CheckpointStore {
  readonly records = new Map<string, Uint8Array>();
  put(key: string, record: Uint8Array): void {
    this.records.set(key, record);
  }
  delete(key: string): void {
    this.records.delete(key);
  }
}

const packetOf = (bytes: Uint8Array): Packet => {
  const p = parsePacket(bytes);
  if (typeof p === 'string') throw new Error(`the rewriter made a bad packet: ${p}`);
  return p;
};

/** One end: what a packet's verdict was, and what the rewriter sent by itself. */
export class End {
  readonly rewriter: Rewriter;
  readonly decided: DecidedEvent[] = [];
  readonly drops: string[] = [];
  readonly injections: Injection[] = [];
  readonly verdicts = new Map<number, Verdict>();
  macFailures = 0;
  now = 1000;
  private token = 0;

  constructor(options: Partial<RewriterOptions> = {}) {
    this.rewriter = new Rewriter({
      policy: testPolicy(),
      random: (length) => new Uint8Array(randomBytes(length)),
      keyExchanges,
      encodings: { write: 'experimental', readBoth: false },
      ...options,
      output: {
        verdict: (token, verdict) => this.verdicts.set(token, verdict),
        inject: (to, bytes) => this.injections.push({ to, packet: packetOf(bytes) }),
      },
      observer: {
        decided: (event) => this.decided.push(event),
        cacheLookup: () => {},
        rekeyed: () => {},
        macFailure: () => this.macFailures++,
        dropped: (why) => this.drops.push(why),
        ...options.observer,
      },
    });
  }

  /** Gives a packet to the rewriter; returns its token. */
  give(direction: Direction, packet: Packet, mark: ConnectionMark = 'tcpcrypt', offload?: Offload): number {
    this.rewriter.handle(direction, packet.bytes.slice(), ++this.token, mark, this.now, offload);
    return this.token;
  }

  /** What became of a packet: the packet as it goes on, `drop`, or `held`. */
  fate(direction: Direction, packet: Packet): Packet | 'drop' | 'held' {
    return this.fateOf(this.give(direction, packet), packet);
  }

  fateOf(token: number, packet: Packet): Packet | 'drop' | 'held' {
    const verdict = this.verdicts.get(token);
    if (!verdict) return 'held';
    if (verdict.kind === 'drop') return 'drop';
    return verdict.bytes ? packetOf(verdict.bytes) : packet;
  }

  markOf(token: number): string | undefined {
    const verdict = this.verdicts.get(token);
    return verdict?.kind === 'accept' ? verdict.mark : undefined;
  }

  /** The packet as it goes on; fails if it does not. */
  through(direction: Direction, packet: Packet): Packet {
    const fate = this.fate(direction, packet);
    if (typeof fate === 'string')
      throw new Error(`expected the packet to go on: ${fate} ${this.drops.at(-1) ?? ''}`);
    return fate;
  }

  /** Takes what the rewriter has sent by itself to `to` since the last call. */
  sent(to: 'network' | 'kernel'): Packet[] {
    const taken = this.injections.filter((each) => each.to === to).map((each) => each.packet);
    const rest = this.injections.filter((each) => each.to !== to);
    this.injections.splice(0, this.injections.length, ...rest);
    return taken;
  }

  pass(ms: number): void {
    this.now += ms;
    this.rewriter.advance(this.now);
  }
}

export interface ScriptOptions {
  readonly version?: 4 | 6;
  readonly client?: Partial<RewriterOptions>;
  readonly server?: Partial<RewriterOptions>;
  readonly isnClient?: number;
  readonly isnServer?: number;
  readonly timestamps?: boolean;
  readonly mssClient?: number;
  readonly mssServer?: number;
}

interface Fields {
  /** Relative to the sender's ISN, as its kernel counts. */
  readonly offset?: number;
  /** Relative to the other's ISN; undefined: no ACK flag. */
  readonly ack?: number | undefined;
  readonly flags?: number;
  readonly data?: string | Uint8Array;
  readonly urgent?: number;
  /** Further options, raw. */
  readonly options?: readonly Uint8Array[];
  readonly port?: number;
}

/** A client's and a server's kernel, spelled out segment by segment, each with a rewriter. */
export class Script {
  readonly client: End;
  readonly server: End;
  readonly isnClient: number;
  readonly isnServer: number;
  private readonly options: ScriptOptions;
  private clock = 100;

  constructor(options: ScriptOptions = {}) {
    this.options = options;
    this.client = new End(options.client);
    this.server = new End(options.server);
    this.isnClient = options.isnClient ?? 1000;
    this.isnServer = options.isnServer ?? 900_000;
  }

  /** A segment of the client's kernel. */
  c(fields: Fields): Packet {
    return this.segment(true, fields);
  }

  /** A segment of the server's kernel. */
  s(fields: Fields): Packet {
    return this.segment(false, fields);
  }

  private segment(fromClient: boolean, f: Fields): Packet {
    const { version = 4, timestamps = true, mssClient = 1460, mssServer = 1460 } = this.options;
    const [a, b] = version === 4 ? ['10.0.0.1', '10.0.0.2'] : ['fd00::1', 'fd00::2'];
    const flags = (f.flags ?? 0) | (f.ack === undefined ? 0 : ACK);
    const items = [...(f.options ?? [])];
    if (timestamps) items.unshift(timestampsOption(++this.clock, this.clock - 1));
    if (flags & SYN) items.unshift(mssOption(fromClient ? mssClient : mssServer));
    const [isn, other] = fromClient ? [this.isnClient, this.isnServer] : [this.isnServer, this.isnClient];
    const port = f.port ?? 40_000;
    return makePacket({
      version,
      source: fromClient ? a! : b!,
      destination: fromClient ? b! : a!,
      sourcePort: fromClient ? port : 80,
      destinationPort: fromClient ? 80 : port,
      seq: (isn + (f.offset ?? 0)) >>> 0,
      ack: f.ack === undefined ? 0 : (other + f.ack) >>> 0,
      flags,
      window: 500,
      urgent: f.urgent ?? 0,
      options: layoutLinux(items)!,
      payload: typeof f.data === 'string' ? Buffer.from(f.data) : (f.data ?? new Uint8Array(0)),
    });
  }

  /** SYN and SYN-ACK through both ends; returns them as they were on the wire. */
  syns(port?: number): { syn: Packet; synAck: Packet } {
    const at = port === undefined ? {} : { port };
    const syn = this.client.through('out', this.c({ flags: SYN, ...at }));
    this.server.through('in', syn);
    const synAck = this.server.through('out', this.s({ flags: SYN, ack: 1, ...at }));
    this.client.through('in', synAck);
    return { syn, synAck };
  }

  /** As `syns`, and the client's ACK turned into INIT1, which is returned. */
  toInit1(port?: number): Packet {
    this.syns(port);
    this.client.give('out', this.c({ offset: 1, ack: 1, ...(port !== undefined && { port }) }));
    return this.client.sent('network')[0]!;
  }

  /** A full handshake; INIT1 and INIT2 as they were on the wire. */
  encrypt(port?: number): { init1: Packet; init2: Packet } {
    const init1 = this.toInit1(port);
    this.server.through('in', init1);
    const init2 = this.server.sent('network')[0]!;
    this.client.give('in', init2);
    for (const ack of this.client.sent('network')) this.server.through('in', ack);
    return { init1, init2 };
  }

  /** Data from one kernel to the other; returns the segments on the wire and what the other kernel gets. */
  carry(from: 'client' | 'server', fields: Fields): { wire: Packet[]; delivered: Packet[] } {
    const [end, other] = from === 'client' ? [this.client, this.server] : [this.server, this.client];
    const packet = from === 'client' ? this.c(fields) : this.s(fields);
    const last = end.through('out', packet);
    const wire = [...end.sent('network'), last];
    const delivered = wire.map((each) => other.fate('in', each)).filter((fate) => typeof fate === 'object');
    if (delivered.length === 0) throw new Error(`nothing goes on: ${other.drops.at(-1) ?? ''}`);
    return { wire, delivered };
  }
}

/** The rewriter's own view of the only connection of an end. */
export function only(end: End) {
  const all = [...end.rewriter.connections()];
  if (all.length !== 1) throw new Error(`expected one connection, not ${all.length}`);
  return all[0]!;
}

export const text = (p: Packet): string => Buffer.from(payloadOf(p)).toString();
