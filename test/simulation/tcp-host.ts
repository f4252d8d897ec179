/** A host's model TCP: sockets by port pair, listeners, resets for what belongs to none, SYN cookies. */

import type { Clock } from './clock.ts';
import type { Random } from './random.ts';
import { ACK, decode, encode, RST, type Segment, SYN, spaceOf } from './segment.ts';
import type { HostPacket } from './super-segment.ts';
import { learn, receive } from './tcp-input.ts';
import { readOptions } from './tcp-options.ts';
import { type Application, type SocketHost, type TcpSettings, TcpSocket } from './tcp-socket.ts';

export interface Listener {
  readonly port: number;
  /** SYN-ACKs carry a cookie, and the socket is made by the ACK alone. */
  readonly cookies: boolean;
  /** So many handshake ACKs are dropped first, as with a full accept queue. */
  refuseAccepts: number;
  accept(segment: Segment): { readonly app: Application; readonly label: number };
}

export class TcpHost implements SocketHost {
  readonly clock: Clock;
  readonly random: Random;
  /** Every socket made, for the checks at the end. */
  readonly all: TcpSocket[] = [];
  readonly sockets = new Map<string, TcpSocket>();
  private readonly listeners = new Map<number, Listener>();
  private readonly output: (packet: HostPacket) => void;
  private readonly cookieBase: number;
  readonly tsBase: number;
  onSocket: (socket: TcpSocket) => void = () => {};

  readonly address: string;
  readonly settings: TcpSettings;

  constructor(
    address: string,
    settings: TcpSettings,
    clock: Clock,
    random: Random,
    output: (packet: HostPacket) => void,
  ) {
    this.address = address;
    this.settings = settings;
    this.clock = clock;
    this.random = random;
    this.output = output;
    this.cookieBase = random.u32();
    this.tsBase = random.u32();
  }

  listen(listener: Listener): void {
    this.listeners.set(listener.port, listener);
  }

  connect(
    port: number,
    peer: { address: string; port: number },
    iss: number,
    app: Application,
    label: number,
  ): TcpSocket {
    const local = { address: this.address, port };
    const socket = new TcpSocket(this, this.settings, local, peer, iss, app, 'syn-sent');
    this.add(socket, label);
    socket.open();
    return socket;
  }

  private add(socket: TcpSocket, label: number): void {
    socket.label = label;
    this.sockets.set(key(socket.local.port, socket.remote.address, socket.remote.port), socket);
    this.all.push(socket);
    this.onSocket(socket);
  }

  find(localPort: number, remoteAddress: string, remotePort: number): TcpSocket | undefined {
    return this.sockets.get(key(localPort, remoteAddress, remotePort));
  }

  input(bytes: Uint8Array): void {
    const segment = decode(bytes);
    if (typeof segment === 'string' || segment.dst !== this.address) return;
    const socket = this.find(segment.dport, segment.src, segment.sport);
    if (socket !== undefined && !(socket.state === 'time-wait' && this.reopens(socket, segment))) {
      receive(socket, segment);
      return;
    }
    const listener = this.listeners.get(segment.dport);
    if (listener === undefined || segment.flags & RST) {
      if (!(segment.flags & RST)) this.sendReset(segment);
    } else if (segment.flags & SYN && !(segment.flags & ACK)) {
      if (listener.cookies) this.answerWithCookie(segment);
      else this.accept(listener, segment, this.random.u32()).open();
    } else if (listener.cookies && segment.flags & ACK && this.cookieIss(segment) !== undefined) {
      this.acceptCookie(listener, segment);
    } else {
      this.sendReset(segment);
    }
  }

  /** RFC 6191 and Linux: a newer SYN takes a TIME-WAIT socket's place. */
  private reopens(socket: TcpSocket, segment: Segment): boolean {
    if (!(segment.flags & SYN) || segment.flags & (ACK | RST)) return false;
    const stamp = readOptions(segment.options).timestamps;
    const newer = ((segment.seq - (socket.irs + socket.receiver.next)) | 0) > 0;
    if (!newer && !(stamp !== undefined && ((stamp.value - socket.tsRecent) | 0) > 0)) return false;
    socket.vanish();
    return true;
  }

  private accept(listener: Listener, segment: Segment, iss: number): TcpSocket {
    const { app, label } = listener.accept(segment);
    const local = { address: this.address, port: segment.dport };
    const remote = { address: segment.src, port: segment.sport };
    const socket = new TcpSocket(this, this.settings, local, remote, iss, app, 'syn-received');
    learn(socket, segment, readOptions(segment.options));
    this.add(socket, label);
    return socket;
  }

  /** The cookie here stands for the options too, which the model keeps aside; real ones hide them in TSval. */
  private readonly cookieSyns = new Map<string, Segment>();

  /** Changes every three seconds (Linux: every minute), so a repeated SYN-ACK may have another number. */
  private cookieOf(segment: Segment, isn: number, age = 0): number {
    const slot = Math.floor(this.clock.now / 3000) - age;
    const mix = Math.imul((isn >>> 0) ^ (segment.sport << 16) ^ slot ^ this.cookieBase, 0x9e3779b1);
    return (mix ^ (mix >>> 15)) >>> 0;
  }

  private cookieIss(ack: Segment): number | undefined {
    const iss = (ack.ack - 1) >>> 0;
    for (let age = 0; age < 20; age++) if (this.cookieOf(ack, ack.seq - 1, age) === iss) return iss;
    return undefined;
  }

  private answerWithCookie(segment: Segment): void {
    this.cookieSyns.set(`${segment.sport}/${segment.seq}`, segment);
    const shadow: SocketHost = {
      clock: this.clock,
      random: this.random,
      tsBase: this.tsBase,
      transmit: (answer) => this.transmit(answer),
      sendReset: () => {},
      acceptQueueFull: () => false,
      removed: () => {},
    };
    const local = { address: this.address, port: segment.dport };
    const remote = { address: segment.src, port: segment.sport };
    const iss = this.cookieOf(segment, segment.seq);
    const app: Application = { established() {}, readable() {}, acknowledged() {}, ended() {} };
    const socket = new TcpSocket(shadow, this.settings, local, remote, iss, app, 'syn-received');
    learn(socket, segment, readOptions(segment.options));
    socket.open();
    socket.vanish();
  }

  private acceptCookie(listener: Listener, segment: Segment): void {
    const syn = this.cookieSyns.get(`${segment.sport}/${(segment.seq - 1) >>> 0}`);
    if (syn === undefined) {
      this.sendReset(segment);
      return;
    }
    const socket = this.accept(listener, syn, (segment.ack - 1) >>> 0);
    socket.sender.next = 1;
    socket.receiver.window(0, socket.ownMss);
    receive(socket, segment);
  }

  transmit(segment: Segment, gsoBytes?: number): void {
    this.output({ bytes: encode(segment), gsoBytes });
  }

  /** RFC 9293 section 3.10.7.1. */
  sendReset(cause: Segment): void {
    const answered = (cause.flags & ACK) !== 0;
    this.transmit({
      src: this.address,
      dst: cause.src,
      sport: cause.dport,
      dport: cause.sport,
      seq: answered ? cause.ack : 0,
      ack: answered ? 0 : (cause.seq + spaceOf(cause)) >>> 0,
      flags: answered ? RST : RST | ACK,
      window: 0,
      urgent: 0,
      options: new Uint8Array(0),
      payload: new Uint8Array(0),
    });
  }

  acceptQueueFull(socket: TcpSocket): boolean {
    const listener = this.listeners.get(socket.local.port);
    if (listener === undefined || listener.refuseAccepts === 0) return false;
    listener.refuseAccepts--;
    return true;
  }

  removed(socket: TcpSocket): void {
    const name = key(socket.local.port, socket.remote.address, socket.remote.port);
    if (this.sockets.get(name) === socket) this.sockets.delete(name);
  }
}

function key(localPort: number, remoteAddress: string, remotePort: number): string {
  return `${localPort}>${remoteAddress}:${remotePort}`;
}
