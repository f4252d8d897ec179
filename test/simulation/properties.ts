/**
 * The properties of issue 4, checked during and after every run. A violation ends the run.
 */

import type { ConnectionInfo } from '../../sidecar/rewriter/types.ts';
import type { Clock } from './clock.ts';
import { Connection, type End, otherHost } from './connection.ts';
import { mustComplete, mustEncrypt, tampers } from './expectations.ts';
import type { FilteredHost } from './filtered-host.ts';
import type { HostName, Scenario } from './scenario.ts';
import { decode, type Segment } from './segment.ts';
import type { TcpSocket } from './tcp-socket.ts';
import { isInitPart, type KeystreamLog, WireWatch } from './wire-watch.ts';

export { Connection, type End, otherHost };

export interface Violation {
  readonly property: string;
  readonly detail: string;
  readonly atMs: number;
}

type Outcome = 'encrypted' | 'plain' | 'refused';

export class Monitor {
  readonly violations: Violation[] = [];
  private readonly keystream: KeystreamLog = new Map();
  /** The latest end by host, own port and peer's port. */
  private readonly ends = new Map<string, End>();
  /** Decisions that came before the kernel had a socket (SYN cookies, the listener's SYN). */
  private readonly early = new Map<string, { outcome: Outcome; info: ConnectionInfo }>();

  private readonly scenario: Scenario;
  private readonly connections: readonly Connection[];
  private readonly clock: Clock;

  constructor(scenario: Scenario, connections: readonly Connection[], clock: Clock) {
    this.scenario = scenario;
    this.connections = connections;
    this.clock = clock;
  }

  fail(property: string, detail: string): void {
    this.violations.push({ property, detail, atMs: this.clock.now });
  }

  socket(host: HostName, socket: TcpSocket): void {
    const connection = this.connections[socket.label];
    const app = connection?.apps[host];
    if (connection === undefined || app === undefined) return;
    const name = `connection ${socket.label} host ${host}`;
    const kinds = { legacy: this.scenario.hosts[host].legacy };
    const report = (property: string, detail: string): void => this.fail(property, detail);
    const watch = new WireWatch(name, socket.iss, app.stream, kinds, this.keystream, report);
    const end: End = { host, socket, app, watch, info: undefined };
    connection.ends[host] = end;
    const key = `${host} ${socket.local.port} ${socket.remote.port}`;
    const before = this.ends.get(key);
    this.ends.set(key, end);
    const early = this.early.get(key);
    this.early.delete(key);
    socket.watch = {
      acknowledged: (_, ack) => this.claimed(connection, host, 1, ack, 'acknowledges'),
      sacked: (_, from, to) => this.claimed(connection, host, from, to, 'SACKs'),
      urgent: (_, at) => this.urgent(connection, host, at),
    };
    if (early === undefined) return;
    const ended = early.outcome === 'encrypted' ? 0 : (before?.app.endedAt ?? 0);
    if (early.info.openedAtMs < Math.max(ended, connection.openedAt ?? 0)) return;
    // An early fallback may be that of a forged or damaged SYN.
    const { attack, hosts } = this.scenario;
    const certain = attack === undefined && !hosts[host].seesDamaged;
    if (early.outcome === 'encrypted' || certain) this.apply(end, early.outcome, early.info);
  }

  /** A host may only be told that its peer has what its peer's kernel has. */
  private claimed(connection: Connection, host: HostName, from: number, to: number, verb: string): void {
    const peer = connection.ends[otherHost(host)];
    // A cookie that is still good makes a second socket of an old one's segments.
    if (peer?.socket.ended !== undefined) return;
    const holds = peer?.socket.receiver.holds(from, to) ?? to <= 1;
    if (holds && from >= 0 && (to > from || verb === 'acknowledges')) return;
    const has = `its kernel has ${peer?.socket.receiver.next ?? 0}`;
    this.fail(
      'acknowledgements are true',
      `host ${host} is told that its peer ${verb} ${from}-${to}; ${has}`,
    );
  }

  private urgent(connection: Connection, host: HostName, at: number): void {
    const marks = connection.apps[otherHost(host)]?.urgentMarks;
    if (marks?.has(at)) return;
    this.fail('urgent data stays where it is', `host ${host} is told of urgent data before offset ${at}`);
  }

  decided(host: HostName, outcome: Outcome, info: ConnectionInfo): void {
    const port = (text: string): string => text.slice(text.lastIndexOf(':') + 1);
    const key = `${host} ${port(info.local)} ${port(info.remote)}`;
    const end = this.ends.get(key);
    // A forged SYN-ACK or SYN of the other direction on the same ports is no decision about this connection.
    if (end !== undefined && outcome !== 'encrypted' && end.socket.active !== info.active) return;
    if (end === undefined || end.socket.ended !== undefined) this.early.set(key, { outcome, info });
    else this.apply(end, outcome, info);
  }

  private apply(end: End, outcome: Outcome, info: ConnectionInfo): void {
    const connection = this.connections[end.socket.label]!;
    const name = `connection ${connection.label} host ${end.host}`;
    const { watch } = end;
    if (outcome === 'encrypted') {
      if (watch.plain) this.fail('a decision is final', `${name} became encrypted after it was plain`);
      watch.encrypted = true;
      end.info = info;
      this.compareEnds(connection, name);
    } else {
      if (watch.encrypted)
        this.fail('a decision is final', `${name} became ${outcome} after it was encrypted`);
      if (watch.sentCiphertext) this.fail('rule 1', `${name} became ${outcome} after it sent ciphertext`);
      watch.plain = true;
      if (outcome === 'refused') connection.refused = true;
    }
  }

  private compareEnds(connection: Connection, name: string): void {
    const { a, b } = connection.ends;
    if (a?.info === undefined || b?.info === undefined) return;
    for (const field of ['sessionId', 'suite', 'keyExchange', 'handshake', 'authenticated'] as const) {
      if (a.info[field] === b.info[field]) continue;
      this.fail('both ends agree', `${name}: ${field} is ${a.info[field]} at a and ${b.info[field]} at b`);
    }
    if (a.info.sessionId === undefined) this.fail('both ends agree', `${name} has no session ID`);
    if (a.info.role === b.info.role) this.fail('both ends agree', `${name}: both have role ${a.info.role}`);
  }

  private endOf(host: HostName, segment: Segment, direction: 'out' | 'in'): End | undefined {
    const [local, remote] =
      direction === 'out' ? [segment.sport, segment.dport] : [segment.dport, segment.sport];
    return this.ends.get(`${host} ${local} ${remote}`);
  }

  leaves(host: HostName, bytes: Uint8Array): void {
    const segment = decode(bytes);
    if (typeof segment === 'string') {
      this.fail('what leaves is well formed', `host ${host}: ${segment}`);
      return;
    }
    const { tcp, mode, rewriter } = this.scenario.hosts[host];
    if (bytes.length > tcp.mtu) {
      this.fail(
        'segments fit the link',
        `host ${host} sent ${bytes.length} bytes, its link carries ${tcp.mtu}`,
      );
    }
    if (!rewriter) return;
    const end = this.endOf(host, segment, 'out');
    if (end === undefined || end.socket.state === 'closed') return;
    // What the 4-tuple's last connection had in the queue still counts from that one's ISN.
    const offset = (segment.seq - end.socket.iss) | 0;
    if (offset < -70_000 || offset > 1_000_000) return;
    end.watch.leaves(segment, mode === 'Strict');
  }

  enters(host: HostName, bytes: Uint8Array): void {
    const segment = decode(bytes);
    if (typeof segment === 'string') {
      if (!this.scenario.hosts[host].seesDamaged)
        this.fail('what the kernel gets is well formed', `host ${host}: ${segment}`);
      return;
    }
    const end = this.endOf(host, segment, 'in');
    if (end === undefined || segment.payload.length === 0 || end.socket.state === 'syn-sent') return;
    if (end.socket.ended !== undefined || end.socket.receiver.finished) return;
    const connection = this.connections[end.socket.label]!;
    const peer = connection.apps[otherHost(host)]!;
    const { receiver, irs } = end.socket;
    const from = receiver.next + ((segment.seq - (irs + receiver.next)) | 0);
    const wrong = segment.payload.findIndex((byte, i) => {
      const at = from + i;
      return at >= receiver.next && at < receiver.windowEnd && byte !== peer.stream[at - 1];
    });
    if (wrong < 0) return;
    const what = `host ${host}'s kernel is given a wrong byte at offset ${from + wrong}`;
    const inits = [connection.ends.a?.watch.init, connection.ends.b?.watch.init].filter(
      (init) => init !== undefined,
    );
    if (isInitPart(segment.payload, inits)) this.fail('no INIT byte to a kernel', what);
    else if (end.watch.encrypted) this.fail('no forgery is accepted', what);
    else if (!tampers(this.scenario) && this.scenario.attack === undefined)
      this.fail('the stream is whole', what);
  }

  /** The applications' view, after every event. */
  check(): void {
    for (const connection of this.connections) {
      if (connection.over && connection.onEnd !== undefined) {
        const { onEnd } = connection;
        connection.onEnd = undefined;
        onEnd();
      }
      for (const host of ['a', 'b'] as const) {
        const app = connection.apps[host];
        if (app?.wrongAt === undefined) continue;
        if (connection.ends[host]?.watch.encrypted !== true && tampers(this.scenario)) continue;
        this.fail(
          'the bytes delivered are the bytes sent',
          `connection ${connection.label} host ${host} read a wrong byte at ${app.wrongAt}`,
        );
      }
    }
  }

  crashed(host: HostName): void {
    for (const connection of this.connections) {
      if (connection.openedAt === undefined || connection.over) continue;
      const settled = connection.mode === 'encrypted' || connection.ends[host]?.watch.plain === true;
      if (!settled) connection.excused = true;
    }
  }

  /** Nothing is left once every socket is gone. */
  empty(host: HostName, filter: FilteredHost): void {
    const counts = filter.machine?.counts();
    if (counts !== undefined && counts.setup + counts.encrypted + counts.plain > 0) {
      this.fail('memory returns to nothing', `host ${host} still counts ${JSON.stringify(counts)}`);
    }
    if (filter.pending.size > 0)
      this.fail('every packet gets a verdict', `host ${host} still holds ${filter.pending.size}`);
  }

  finish(): void {
    for (const connection of this.connections) {
      const name = `connection ${connection.label}`;
      if (connection.mode === 'mixed' && !connection.excused) {
        this.fail(
          'both ends end in one mode',
          `${name}: ${connection.ends.a?.watch.encrypted ? 'a' : 'b'} alone is encrypted`,
        );
      }
      for (const host of ['a', 'b'] as const) {
        const app = connection.apps[host];
        if (app?.sawEnd !== true || app.read === app.expected.length) continue;
        const peer = connection.apps[otherHost(host)];
        if (peer?.script.end === 'abort') continue;
        this.fail(
          'the stream is whole',
          `${name}: host ${host} saw the end after ${app.read} of ${app.expected.length} bytes`,
        );
      }
      // A forged SYN can take a TIME-WAIT socket's place, and its peer's last FIN is never answered.
      const delivered = this.scenario.attack === undefined ? connection.complete : connection.delivered;
      if (!delivered && mustComplete(this.scenario, connection)) {
        const { opener, listener } = connection;
        const state = `opener ${opener?.how} ${opener?.read}/${opener?.expected.length}, listener ${listener?.how} ${listener?.read}/${listener?.expected.length}`;
        this.fail('a connection is never broken', `${name} (${connection.mode}): ${state}`);
      }
      if (connection.mode !== 'encrypted' && mustEncrypt(this.scenario, connection)) {
        this.fail('a clean path is encrypted', `${name} is ${connection.mode}`);
      }
    }
  }
}
