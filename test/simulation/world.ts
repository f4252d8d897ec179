/** One run: two hosts, a path, the connections of a scenario, to the end. */

import { ScriptedApplication, totalBytes } from './application.ts';
import { Attacker } from './attacker.ts';
import { Clock } from './clock.ts';
import { FilteredHost } from './filtered-host.ts';
import { type MachineFactory, MemoryStore, rewriterOptions } from './machine.ts';
import { Middlebox } from './middlebox.ts';
import { Path, type Way } from './path.ts';
import { Connection, Monitor, otherHost, type Violation } from './properties.ts';
import { Random } from './random.ts';
import { ADDRESSES, type HostName, type Scenario } from './scenario.ts';
import { decode, type Segment } from './segment.ts';
import { socketsOf } from './sock-diag.ts';
import { TcpHost } from './tcp-host.ts';
import { silent, type Trace } from './trace.ts';

const MAX_EVENTS = 400_000;
const MAX_MS = 3_600_000;

export interface RunResult {
  readonly scenario: Scenario;
  readonly violations: readonly Violation[];
  readonly connections: readonly Connection[];
  readonly events: number;
  readonly endedAtMs: number;
  /** Super-segments that the rewriters got whole. */
  readonly superSegments: { readonly in: number; readonly out: number };
}

interface Side {
  readonly name: HostName;
  readonly filter: FilteredHost;
  readonly tcp: TcpHost;
  readonly store: MemoryStore;
  readonly random: Random;
}

export class World {
  readonly clock = new Clock();
  readonly connections: Connection[];
  readonly monitor: Monitor;
  private readonly sides: { readonly [name in HostName]: Side };
  private readonly path: Path;
  private readonly attacker: Attacker | undefined;
  private readonly random: Random;

  readonly scenario: Scenario;
  private readonly factory: MachineFactory;
  private readonly trace: Trace;

  constructor(scenario: Scenario, factory: MachineFactory, trace: Trace = silent) {
    this.scenario = scenario;
    this.factory = factory;
    this.trace = trace;
    this.random = new Random(scenario.seed ^ 0x5eed);
    this.connections = scenario.connections.map((plan, label) => new Connection(label, plan));
    this.monitor = new Monitor(scenario, this.connections, this.clock);
    this.sides = { a: this.makeSide('a'), b: this.makeSide('b') };
    this.path = new Path(
      this.clock,
      this.random.fork('path'),
      scenario.faults,
      new Middlebox(scenario.translation),
      {
        deliver: (way, bytes) => this.deliver(way, bytes, false),
        note: (way, what, segment) => this.trace.note(this.clock.now, `${way} ${what}`, segment),
      },
    );
    const kinds = scenario.hosts.a.legacy ? [69, 70] : [253];
    if (scenario.attack !== undefined) {
      this.attacker = new Attacker(scenario.attack, kinds, this.clock, this.random.fork('attacker'), {
        encrypted: (way, segment) => this.bothEncrypted(way, segment),
        inject: (way, bytes, what) => {
          const segment = decode(bytes);
          if (typeof segment !== 'string') this.trace.note(this.clock.now, `${way} ${what}`, segment);
          this.deliver(way, bytes, true);
        },
        active: () => !this.finished(),
      });
    }
  }

  private makeSide(name: HostName): Side {
    const { scenario, clock } = this;
    const plan = scenario.hosts[name];
    const random = this.random.fork(name);
    const kinds = new Set(plan.legacy ? [69, 70] : [253]);
    const filter = new FilteredHost(clock, kinds, plan.queueDelayMs, plan.mode === 'Strict', plan.gro, {
      leaves: (bytes) => this.leaves(name, bytes),
      enters: (bytes) => {
        this.trace.packet(clock.now, `   ${name} kernel <-`, bytes);
        this.monitor.enters(name, bytes);
      },
      queued: (direction, bytes, mark) =>
        this.trace.packet(clock.now, `   ${name} queue ${direction} ${mark}`, bytes),
      broken: (property, detail) => this.monitor.fail(property, `${name}: ${detail}`),
    });
    const address = ADDRESSES[scenario.family][name];
    const tcp = new TcpHost(address, plan.tcp, clock, random.fork('tcp'), (packet) => {
      this.trace.packet(clock.now, `   ${name} kernel ->`, packet.bytes);
      filter.out(packet);
    });
    filter.tcp = tcp;
    tcp.onSocket = (socket) => this.monitor.socket(name, socket);
    const side: Side = { name, filter, tcp, store: new MemoryStore(), random };
    if (plan.rewriter) filter.machine = this.makeMachine(side);
    return side;
  }

  private makeMachine(side: Side): ReturnType<MachineFactory> {
    const plan = this.scenario.hosts[side.name];
    const { monitor, clock } = this;
    const line = (text: string): void => this.trace.line(clock.now, `   ${side.name} ${text}`);
    const options = rewriterOptions(plan, side, line, (event) => {
      monitor.decided(side.name, event.outcome, event.connection);
    });
    return this.factory(options);
  }

  private leaves(name: HostName, bytes: Uint8Array): void {
    const way: Way = name === 'a' ? 'ab' : 'ba';
    this.trace.packet(this.clock.now, `${way} wire`, bytes);
    this.trace.capture(this.clock.now, bytes);
    this.monitor.leaves(name, bytes);
    this.path.send(way, bytes);
  }

  private deliver(way: Way, bytes: Uint8Array, forged: boolean): void {
    const name = way === 'ab' ? 'b' : 'a';
    const segment = decode(bytes);
    if (!forged && typeof segment !== 'string') this.attacker?.sees(way, segment);
    this.sides[name].filter.in(bytes, this.scenario.hosts[name].seesDamaged);
  }

  private bothEncrypted(way: Way, segment: Segment): boolean {
    const far = this.sides[way === 'ab' ? 'b' : 'a'];
    const socket = far.tcp.find(segment.dport, segment.src, segment.sport);
    if (socket === undefined || socket.label < 0) return false;
    const { a, b } = this.connections[socket.label]!.ends;
    return (a?.watch.encrypted ?? false) && (b?.watch.encrypted ?? false);
  }

  run(): RunResult {
    const { scenario, clock } = this;
    this.begin(0);
    for (const name of ['a', 'b'] as const) {
      this.reconcile(name);
      const death = scenario.hosts[name].conntrackDeathMs;
      if (death > 0) this.every(death, () => this.sides[name].filter.forgetMarks());
    }
    if (scenario.restart !== undefined) this.planRestart(scenario.restart);
    for (;;) {
      if (this.monitor.violations.length > 0) break;
      if (clock.events > MAX_EVENTS)
        this.monitor.fail('it terminates', `still busy after ${MAX_EVENTS} events`);
      else if (!clock.step(MAX_MS)) break;
      this.monitor.check();
      if (this.finished()) break;
    }
    if (this.monitor.violations.length === 0) this.finish();
    const { violations } = this.monitor;
    return {
      scenario,
      violations,
      connections: this.connections,
      events: clock.events,
      endedAtMs: clock.now,
      superSegments: this.superSegments,
    };
  }

  get superSegments(): RunResult['superSegments'] {
    const { a, b } = this.sides;
    return {
      in: a.filter.superSegments.in + b.filter.superSegments.in,
      out: a.filter.superSegments.out + b.filter.superSegments.out,
    };
  }

  /** Opens connection `index`, and arranges for the next. */
  private begin(index: number): void {
    const connection = this.connections[index];
    if (connection === undefined) return;
    this.clock.after(connection.plan.afterMs, () => {
      this.open(connection);
      const next = this.connections[index + 1];
      if (next === undefined) return;
      if (next.plan.afterPrevious) connection.onEnd = () => this.begin(index + 1);
      else this.begin(index + 1);
    });
  }

  private open(connection: Connection): void {
    const { plan, label } = connection;
    const { clock } = this;
    const passive = otherHost(plan.opener);
    const near = this.sides[plan.opener];
    const far = this.sides[passive];
    const openerBytes = totalBytes(plan.openerScript);
    const listenerBytes = totalBytes(plan.listenerScript);
    const opener = new ScriptedApplication(clock, plan.openerScript, label, 'opener', listenerBytes);
    const listener = new ScriptedApplication(clock, plan.listenerScript, label, 'listener', openerBytes);
    connection.start(clock.now, plan.opener, opener, listener);
    const nat = this.scenario.translation.nat;
    const openerIsA = plan.opener === 'a';
    const peerAddress = !openerIsA && nat !== undefined ? nat.outside : far.tcp.address;
    if (plan.simultaneous) {
      far.tcp.connect(
        plan.listenPort,
        { address: near.tcp.address, port: plan.sourcePort },
        this.random.u32(),
        listener,
        label,
      );
    } else {
      const settings = this.scenario.hosts[passive];
      const isn = this.scenario.translation.isn[openerIsA ? 'ab' : 'ba'];
      far.tcp.listen({
        port: plan.listenPort,
        cookies: settings.cookies,
        refuseAccepts: settings.cookies ? 0 : settings.refuseAccepts,
        accept: (segment) => {
          const right =
            segment.seq === (plan.openerIss + isn) >>> 0 && connection.ends[passive] === undefined;
          return right ? { app: listener, label } : { app: stranger, label: -1 };
        },
      });
    }
    near.tcp.connect(
      plan.sourcePort,
      { address: peerAddress, port: plan.listenPort },
      plan.openerIss,
      opener,
      label,
    );
  }

  private every(ms: number, run: () => void): void {
    this.clock.after(ms, () => {
      if (this.finished()) return;
      run();
      this.every(ms, run);
    });
  }

  private reconcile(name: HostName): void {
    const side = this.sides[name];
    this.every(this.scenario.hosts[name].reconcileMs, () => {
      side.filter.call((machine) => machine.reconcile(socketsOf(side.tcp), this.clock.now));
    });
  }

  private planRestart(restart: NonNullable<Scenario['restart']>): void {
    const side = this.sides[restart.host];
    this.clock.after(restart.atMs, () => {
      if (side.filter.machine === undefined) return;
      this.trace.line(this.clock.now, `   ${side.name} rewriter dies`);
      this.monitor.crashed(side.name);
      side.filter.crash();
      this.clock.after(restart.downMs, () => {
        this.trace.line(this.clock.now, `   ${side.name} rewriter is back`);
        side.filter.down = false;
        side.filter.machine = this.makeMachine(side);
        const records = [...side.store.records];
        side.filter.call((machine) => machine.restore(records, socketsOf(side.tcp), this.clock.now));
      });
    });
  }

  private finished(): boolean {
    return (
      this.connections.every((connection) => connection.over) &&
      !this.sides.a.filter.down &&
      !this.sides.b.filter.down
    );
  }

  /** Lets TIME-WAIT and late packets pass, then reconciles twice and looks at what is left. */
  private finish(): void {
    const until = this.clock.now + 300_000;
    while (this.clock.step(until) && this.monitor.violations.length === 0);
    for (const name of ['a', 'b'] as const) {
      const { filter, tcp } = this.sides[name];
      for (const socket of [...tcp.sockets.values()]) socket.vanish();
      for (let round = 1; round <= 2; round++) {
        filter.call((machine) => machine.reconcile([], this.clock.now + round * 60_000));
      }
      this.monitor.empty(name, filter);
    }
    this.monitor.finish();
  }
}

const stranger = { established() {}, readable() {}, acknowledged() {}, ended() {} };
