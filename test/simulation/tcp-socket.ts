/**
 * One socket of the model TCP: its state, its application's calls and its timers. What it does with a segment
 * is in `tcp-input.ts`, what it puts out in `tcp-output.ts`. It is a model of Linux in what a rewriter below
 * it can notice (retransmitted SYNs, challenge ACKs, probes, SACK, TIME-WAIT), not in congestion control.
 */

import type { Clock, Timer } from './clock.ts';
import type { Random } from './random.ts';
import type { Segment } from './segment.ts';
import { flush, sendAck, sendControl, sendKeepalive, sendProbe } from './tcp-output.ts';
import { Receiver } from './tcp-receiver.ts';
import { Sender } from './tcp-sender.ts';

export type TcpState =
  | 'syn-sent'
  | 'syn-received'
  | 'established'
  | 'fin-wait-1'
  | 'fin-wait-2'
  | 'close-wait'
  | 'closing'
  | 'last-ack'
  | 'time-wait'
  | 'closed';

export interface TcpSettings {
  readonly mtu: number;
  readonly timestamps: boolean;
  readonly sack: boolean;
  readonly windowScale: number | undefined;
  readonly receiveBufferBytes: number;
  readonly cwndSegments: number;
  /** So many segments at most are handed to the packet filter as one. */
  readonly superSegments: number;
  readonly delayedAckMs: number;
  readonly keepaliveMs: number;
  /** The keep-alive carries one byte that the peer has long had. */
  readonly keepaliveGarbage: boolean;
  /** A window probe carries the next byte (BSD) instead of none (Linux). */
  readonly probeWithByte: boolean;
}

/** What a socket needs of its host. */
export interface SocketHost {
  readonly clock: Clock;
  readonly random: Random;
  /** Timestamps of every socket count from here. */
  readonly tsBase: number;
  /** `gsoBytes`: of a super-segment, how much data each segment has. */
  transmit(segment: Segment, gsoBytes?: number): void;
  sendReset(cause: Segment): void;
  /** True while the accept queue is full: the last ACK of a handshake is then dropped. */
  acceptQueueFull(socket: TcpSocket): boolean;
  removed(socket: TcpSocket): void;
}

export interface Application {
  established(socket: TcpSocket): void;
  readable(socket: TcpSocket): void;
  acknowledged(socket: TcpSocket): void;
  ended(socket: TcpSocket, how: 'closed' | 'reset' | 'timeout'): void;
}

/** Told what the peer claims to have; the property checks compare it with what the peer really has. */
export interface Watch {
  acknowledged(socket: TcpSocket, ack: number): void;
  sacked(socket: TcpSocket, from: number, to: number): void;
  urgent(socket: TcpSocket, at: number): void;
}

export const MAX_RETRIES = 9;
const SYN_RETRIES = 5;
const TIME_WAIT_MS = 60_000;

export class TcpSocket {
  state: TcpState;
  irs = 0;
  peerMss = 536;
  peerScale = 0;
  scale = 0;
  timestamps: boolean;
  sack: boolean;
  tsRecent = 0;
  lastAckSent = 1;
  lastOutOfWindowAck = -1000;
  unackedSegments = 0;
  mtu: number;
  rto = 1000;
  srtt: number | undefined;
  timed: { offset: number; at: number } | undefined;
  lastHeard = 0;
  ended: 'closed' | 'reset' | 'timeout' | undefined;
  watch: Watch | undefined;
  /** Which of the run's connections this is. */
  label = -1;
  readonly active: boolean;
  readonly sender: Sender;
  readonly receiver: Receiver;
  readonly tsBase: number;
  private retries = 0;
  private retransmitTimer: Timer | undefined;
  private ackTimer: Timer | undefined;
  private idleTimer: Timer | undefined;

  readonly host: SocketHost;
  readonly settings: TcpSettings;
  readonly local: { readonly address: string; readonly port: number };
  readonly remote: { readonly address: string; readonly port: number };
  readonly iss: number;
  readonly app: Application;

  constructor(
    host: SocketHost,
    settings: TcpSettings,
    local: { readonly address: string; readonly port: number },
    remote: { readonly address: string; readonly port: number },
    iss: number,
    app: Application,
    state: 'syn-sent' | 'syn-received',
  ) {
    this.host = host;
    this.settings = settings;
    this.local = local;
    this.remote = remote;
    this.iss = iss;
    this.app = app;
    this.state = state;
    this.active = state === 'syn-sent';
    this.mtu = settings.mtu;
    this.timestamps = settings.timestamps;
    this.sack = settings.sack;
    this.sender = new Sender(settings.cwndSegments * 1400, host.random);
    this.receiver = new Receiver(settings.receiveBufferBytes);
    this.tsBase = host.tsBase;
    this.lastHeard = host.clock.now;
  }

  get ownMss(): number {
    return this.mtu - (this.local.address.includes(':') ? 60 : 40);
  }

  /** Sends SYN or SYN-ACK and keeps repeating it. */
  open(): void {
    this.sender.next = 1;
    sendControl(this);
    this.armRetransmit();
  }

  write(bytes: Uint8Array): void {
    const joined = new Uint8Array(this.sender.data.length + bytes.length);
    joined.set(this.sender.data);
    joined.set(bytes, this.sender.data.length);
    this.sender.data = joined;
    if (this.synchronised) flush(this);
  }

  /** Half-closes: no more bytes after those written. */
  close(): void {
    if (this.sender.closed || this.ended !== undefined) return;
    this.sender.closed = true;
    if (this.state === 'established') this.state = 'fin-wait-1';
    else if (this.state === 'close-wait') this.state = 'last-ack';
    if (this.synchronised) flush(this);
  }

  abort(): void {
    if (this.ended !== undefined) return;
    if (this.synchronised) sendControl(this, true);
    this.end('reset');
  }

  consume(bytes: number): void {
    const before = this.receiver.windowEnd - this.receiver.next;
    this.receiver.read += bytes;
    if (!this.synchronised || this.ended !== undefined) return;
    const after = this.receiver.window(this.scale, this.ownMss);
    if (after >= before + 2 * this.ownMss || (before < this.ownMss && after >= this.ownMss)) sendAck(this);
  }

  get synchronised(): boolean {
    return this.state !== 'syn-sent' && this.state !== 'syn-received' && this.state !== 'closed';
  }

  /** Becomes established, from either opening. */
  establish(): void {
    this.retries = 0;
    this.cancel('retransmitTimer');
    this.state = this.sender.closed ? 'fin-wait-1' : 'established';
    this.armKeepalive();
    this.app.established(this);
    if (this.ended === undefined) flush(this);
  }

  /** The peer moved our window's left edge: the retransmission timer starts afresh. */
  progressed(): void {
    this.retries = 0;
    if (this.srtt !== undefined) this.rto = Math.max(200, Math.round(this.srtt * 2 + 50));
    this.cancel('retransmitTimer');
    this.armRetransmit();
  }

  armRetransmit(): void {
    if (this.retransmitTimer !== undefined || this.state === 'closed') return;
    const { sender } = this;
    if (!sender.outstanding && !(sender.pending && this.synchronised)) return;
    const wait = this.rto * 2 ** this.retries;
    this.retransmitTimer = this.host.clock.after(wait, () => {
      this.retransmitTimer = undefined;
      this.retransmit();
    });
  }

  private retransmit(): void {
    const handshake = this.state === 'syn-sent' || this.state === 'syn-received';
    if (++this.retries > (handshake ? SYN_RETRIES : MAX_RETRIES)) {
      this.end('timeout');
      return;
    }
    this.timed = undefined;
    if (handshake) sendControl(this);
    else if (this.sender.outstanding) {
      this.sender.timedOut(this.ownMss);
      flush(this);
    } else sendProbe(this);
    this.armRetransmit();
  }

  armAck(): void {
    if (this.state === 'closed') return;
    this.ackTimer ??= this.host.clock.after(this.settings.delayedAckMs, () => {
      this.ackTimer = undefined;
      sendAck(this);
    });
  }

  ackSent(): void {
    this.unackedSegments = 0;
    this.lastAckSent = this.receiver.next;
    this.cancel('ackTimer');
  }

  private armKeepalive(): void {
    const { clock } = this.host;
    const idle = this.settings.keepaliveMs;
    this.idleTimer = clock.schedule(Math.max(this.lastHeard + idle, clock.now + Math.ceil(idle / 8)), () => {
      // While data are unacknowledged their own timer decides (tcp_keepalive_timer).
      const busy = this.sender.outstanding || this.sender.pending;
      if (clock.now - this.lastHeard >= 2 * idle && !busy) {
        sendControl(this, true);
        this.end('timeout');
        return;
      }
      if (clock.now - this.lastHeard >= idle && !busy) sendKeepalive(this);
      this.armKeepalive();
    });
  }

  enterTimeWait(): void {
    this.state = 'time-wait';
    this.cancelAll();
    this.report('closed');
    this.idleTimer = this.host.clock.after(TIME_WAIT_MS, () => this.vanish());
  }

  end(how: 'closed' | 'reset' | 'timeout'): void {
    this.cancelAll();
    this.report(how);
    this.vanish();
  }

  private report(how: 'closed' | 'reset' | 'timeout'): void {
    if (this.ended !== undefined) return;
    this.ended = how;
    this.app.ended(this, how);
  }

  vanish(): void {
    this.cancelAll();
    this.state = 'closed';
    this.host.removed(this);
  }

  private cancelAll(): void {
    this.cancel('retransmitTimer');
    this.cancel('ackTimer');
    this.cancel('idleTimer');
  }

  private cancel(name: 'retransmitTimer' | 'ackTimer' | 'idleTimer'): void {
    const timer = this[name];
    if (timer !== undefined) timer.cancelled = true;
    this[name] = undefined;
  }
}
