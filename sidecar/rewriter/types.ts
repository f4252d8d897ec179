/**
 * What the rewriter takes and gives. The rewriter is a pure machine: packets, timers and policy go in,
 * actions come out through `Output`; it has no socket, no clock and no randomness of its own, so the
 * simulated network, the exhaustive search and the kernel all drive the very same code.
 */
import type { Suite } from '../crypto/asm.ts';
import type { KeyExchange } from '../crypto/key-exchange.ts';
import type { Listed } from '../protocol/negative-list.ts';
import type { Role, TrustKey } from '../protocol/types.ts';

/** As seen from the host that the rewriter serves. */
export type Direction = 'in' | 'out';

/**
 * How a connection stands for the packet-filter rules, and what a verdict makes of it. `offered`: a SYN or SYN-ACK
 * of it was asked about before, or passed by when nobody listened; segments without SYN are not queued. `tcpcrypt`:
 * segments come one by one; `superSegment`: as the kernel has them, super-segments whole. A verdict without a mark
 * leaves the connection as it is: asked about again with its next packet.
 */
export type ConnectionMark = 'none' | 'plain' | 'offered' | 'tcpcrypt' | 'superSegment';

/** What the kernel's offloads mean for a queued packet. */
export interface Offload {
  /** It leaves, or came, as several segments: the kernel cuts what it is given back, which may not be less than one. */
  readonly superSegment: boolean;
  /** Its TCP checksum is not complete yet, or was checked already: it proves nothing. */
  readonly checksumLater: boolean;
}

/**
 * A decision on one queued packet. `bytes` replaces the packet; `mark` changes the connection's state. `afresh`: the
 * connection's conntrack entry was lost, so the packet came with an entry of its own that is not in the table yet and
 * would be dropped if another took its place meanwhile. It goes on as a new packet instead, which carries the mark.
 */
export type Verdict =
  | {
      readonly kind: 'accept';
      readonly bytes?: Uint8Array;
      readonly mark?: ConnectionMark;
      readonly afresh?: boolean;
    }
  /** `elsewhere`: its data leave in packets of the rewriter's own. */
  | { readonly kind: 'drop'; readonly elsewhere?: boolean };

/** Where the rewriter's actions go. `token` names a queued packet; it is answered exactly once. */
export interface Output {
  verdict(token: number, verdict: Verdict): void;
  /** Sends a packet of the rewriter's own, a whole IP datagram, past the queues. */
  inject(to: 'network' | 'kernel', bytes: Uint8Array): void;
}

export type Mode = 'Opportunistic' | 'Strict' | 'Audit' | 'Disabled';

/** What policy says of one connection. */
export interface Decision {
  readonly mode: Mode;
  readonly authentication: 'Optional' | 'Required';
}

/** Policy in force. Algorithm ids are those of wire.md section 2, in order of preference. */
export interface Policy {
  readonly generation: string;
  /** `port` is the listener's port; `peer` the remote address as text. */
  decide(direction: 'Inbound' | 'Outbound', port: number, peer: string): Decision;
  readonly keyExchanges: readonly number[];
  readonly suites: readonly number[];
  readonly sessionCache: {
    readonly enabled: boolean;
    readonly maxEntries: number;
    readonly lifetimeMs: number;
  };
  readonly rekey: { readonly afterBytes: number; readonly afterMs: number };
  /** Drop RST segments without a valid MAC (the draft's TCP_CRYPT_RSTCHK). */
  readonly rstCheck: boolean;
}

/** Closed list; interfaces.md, "Metrics". */
export type FallbackReason =
  | 'peer_unsupported'
  | 'options_stripped'
  | 'declined'
  | 'syn_timeout'
  | 'init_timeout'
  | 'no_option_space'
  | 'no_common_algorithm'
  | 'policy'
  | 'incompatible_option'
  | 'simultaneous_open'
  | 'path_check'
  | 'negative_list'
  | 'resource_limit'
  | 'malformed'
  | 'other_mesh'
  | 'bypassed';

export type { Role, TrustKey };

/** A connection as `tcpcrypt connections` and the API show it. Addresses are `address:port`, IPv6 in brackets. */
export interface ConnectionInfo {
  readonly local: string;
  readonly remote: string;
  /** Whether this host opened the connection. */
  readonly active: boolean;
  readonly role: Role;
  readonly state: 'setup' | 'encrypted' | 'plain';
  readonly reason?: FallbackReason;
  readonly keyExchange?: string;
  readonly suite?: string;
  readonly handshake?: 'full' | 'cached';
  readonly authenticated: boolean;
  /** Hex of SID[i], 32 bytes. */
  readonly sessionId?: string;
  /** The peer's application said that it is tcpcrypt-aware. */
  readonly peerAppSupport: boolean;
  readonly openedAtMs: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

export type PeerClass = 'known' | 'cluster' | 'node' | 'external';

/** What the rewriter reports as it happens; the runtime turns it into metrics, log lines and the key log. */
export interface Observer {
  /** Once a connection: when it became encrypted, plain, or was refused. */
  decided(event: {
    readonly connection: ConnectionInfo;
    readonly outcome: 'encrypted' | 'plain' | 'refused';
    readonly handshake: 'full' | 'cached' | 'none';
    /** From the SYN to the decision. */
    readonly durationMs: number;
    readonly peerKnown: boolean;
    /** In mode Audit: Strict would have refused it. */
    readonly wouldRefuse: boolean;
  }): void;
  /** The session's secret, for the key log only; called only when `keyLog` is set in the configuration. */
  secret?(sessionId: Uint8Array, secret: Uint8Array, opener: string, listener: string): void;
  cacheLookup(role: Role, hit: boolean): void;
  rekeyed(direction: 'in' | 'out'): void;
  macFailure(): void;
  /** A packet of an encrypted or half-made connection was dropped; `why` is a short fixed word. */
  dropped(why: string): void;
}

/** A kernel socket as sock_diag lists it; byte counters are tcp_info's, absent in SYN and TIME-WAIT states. */
export interface SocketInfo {
  readonly local: string;
  readonly remote: string;
  /** Linux TCP state number: 1 ESTABLISHED … 6 TIME_WAIT … 11 CLOSING. */
  readonly state: number;
  readonly bytesAcked?: number;
  readonly bytesReceived?: number;
  /** Unsent plus unacknowledged bytes in the send queue (idiag_wqueue). */
  readonly sendQueueBytes: number;
  /** Of these, what was never sent (tcpi_notsent_bytes). */
  readonly notSentBytes?: number;
  /** It takes packets of one interface only (idiag_if). */
  readonly boundToInterface?: boolean;
}

/** Where a connection's state outlives the process: memory-backed, written before the segment that needs it. */
export interface CheckpointStore {
  put(key: string, record: Uint8Array): void;
  delete(key: string): void;
}

export interface Timers {
  /** First retransmission of INIT1 and INIT2; doubles each time. */
  readonly initRetransmitMs: number;
  /** C returns to plain when INIT1 is not answered for so long. */
  readonly initTimeoutMs: number;
  /** Setup state without any progress is dropped after this. */
  readonly setupIdleMs: number;
}

export interface RewriterLimits {
  readonly maxConnections: number;
  readonly maxSetups: number;
  readonly maxHeldPackets: number;
  /** Incomplete super-segments of all connections together, in bytes. */
  readonly maxCollectedBytes: number;
}

export type AppSupport = 'none' | 'support' | 'mandatory';

export interface RewriterOptions {
  readonly output: Output;
  readonly observer: Observer;
  readonly policy: Policy;
  readonly random: (length: number) => Uint8Array;
  readonly encodings: { readonly write: 'experimental' | 'legacy'; readonly readBoth: boolean };
  readonly timers?: Partial<Timers>;
  readonly limits?: Partial<RewriterLimits>;
  readonly trustKeys?: readonly TrustKey[];
  readonly store?: CheckpointStore;
  /** The cipher suites; default: those of crypto/asm.ts. The runtime gives the addon's, which make the same bytes. */
  readonly suites?: ReadonlyMap<number, Suite>;
  /** By id. The runtime gives some whose keys are made ahead. */
  readonly keyExchanges: ReadonlyMap<number, KeyExchange>;
  readonly keyLog?: boolean;
  /** Whether conntrack is near full: then no new connection is offered (`resource_limit`). */
  readonly nearFull?: () => boolean;
}

/** The rewriter as the runtime and the tests drive it. `now` is milliseconds on a clock that never goes back. */
export interface RewriterMachine {
  /** Takes one queued IP packet (TCP, or an ICMP error). Its verdict follows now or later through `Output`. */
  handle(
    direction: Direction,
    bytes: Uint8Array,
    token: number,
    mark: ConnectionMark,
    now: number,
    offload?: Offload,
  ): void;
  /**
   * The quick way for a packet ring[start, end). If it is an ordinary one of an encrypted
   * connection it is rewritten where it lies, and where it begins then is returned (it still ends at `end`): it is
   * to be accepted so, without a verdict through `Output`. -1: it is as it was, for `handle`. As many as
   * HEADROOM_BYTES (fast-path.ts) before `start` may be overwritten.
   */
  rewriteInPlace(
    direction: Direction,
    ring: Uint8Array,
    start: number,
    end: number,
    mark: ConnectionMark,
    now: number,
    offload?: Offload,
  ): number;
  /** When `advance` wants to be called next, or undefined. */
  nextTimeout(): number | undefined;
  advance(now: number): void;
  setPolicy(policy: Policy): void;
  setTrustKeys(keys: readonly TrustKey[]): void;
  setAppSupport(port: number, support: AppSupport): void;
  flushSessionCache(): void;
  connections(): IterableIterator<ConnectionInfo>;
  /** Takes what other sidecars of the node have on their negative lists, as a whole; returns what is on this one's. */
  shareNegativeList(entries: Iterable<Listed>, now: number): Listed[];
  /** Counts by state, cached sessions, and entries of other sidecars' negative lists. */
  counts(): {
    setup: number;
    encrypted: number;
    plain: number;
    cachedSessions: number;
    sharedListings: number;
  };
  /** Drops the state of connections whose socket is gone (absent from two successive calls). */
  reconcile(sockets: Iterable<SocketInfo>, now: number): void;
  /** Takes checkpoint records back; returns how many connections live on. */
  restore(
    records: Iterable<readonly [key: string, record: Uint8Array]>,
    sockets: Iterable<SocketInfo>,
    now: number,
  ): number;
}
