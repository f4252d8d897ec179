/**
 * The packet threads as one. The rules send both directions of all connections between two addresses to the same one,
 * so each has connections, sessions and listings of its own, and what is asked of all is asked of each.
 */
import type { PolicyDocument } from '../../policy/document.ts';
import type { Listed } from '../protocol/negative-list.ts';
import type { TrustKey } from '../protocol/types.ts';
import type { AppSupport, ConnectionInfo } from '../rewriter/types.ts';
import type { PacketThreadOptions } from './messages.ts';
import { PacketPort, type PacketPortEvents } from './packet-port.ts';
import type { CounterReader } from './shared-counters.ts';

export class Workers {
  readonly #ports: readonly PacketPort[];

  /** Starts a thread for each of `options`. Throws what keeps the first of them from handling packets; none stays then. */
  static async start(
    options: readonly PacketThreadOptions[],
    counters: CounterReader,
    events: PacketPortEvents,
  ): Promise<Workers> {
    const ports: PacketPort[] = [];
    try {
      // One after another: the first to bind its queues owns the state directory.
      for (const each of options) ports.push(await PacketPort.start(each, counters.source(), events));
    } catch (error) {
      await Promise.all(ports.map((port) => port.stop()));
      throw error;
    }
    return new Workers(ports);
  }

  private constructor(ports: readonly PacketPort[]) {
    this.#ports = ports;
  }

  /** Connections that were taken back from checkpoints. */
  get restored(): number {
    return this.#ports.reduce((sum, { restored }) => sum + restored, 0);
  }

  setPolicy(document: PolicyDocument): void {
    for (const port of this.#ports) port.setPolicy(document);
  }

  setTrustKeys(keys: readonly TrustKey[]): void {
    for (const port of this.#ports) port.setTrustKeys(keys);
  }

  /** Two dumps of `sockDiag`. */
  reconcile(v4: Uint8Array, v6: Uint8Array): void {
    for (const port of this.#ports) port.reconcile(v4, v6);
  }

  async setAppSupport(port: number, support: AppSupport): Promise<void> {
    await Promise.all(this.#ports.map((each) => each.setAppSupport(port, support)));
  }

  async flushSessionCache(): Promise<void> {
    await Promise.all(this.#ports.map((port) => port.flushSessionCache()));
  }

  /** All connections, or those with the ends given, in pieces. */
  async *connections(ends?: { local?: string; remote?: string }): AsyncGenerator<readonly ConnectionInfo[]> {
    for (const port of this.#ports) yield* port.connections(ends);
  }

  /** Gives what other sidecars of the node have on their negative lists; returns what is on these threads'. */
  async shareNegativeList(entries: readonly Listed[]): Promise<readonly Listed[]> {
    return (await Promise.all(this.#ports.map((port) => port.shareNegativeList(entries)))).flat();
  }

  /** No new connection is offered tcpcrypt any more. */
  drain(): void {
    for (const port of this.#ports) port.drain();
  }

  /** Ends the threads; packets that the kernel still holds for them are dropped. */
  async stop(): Promise<void> {
    await Promise.all(this.#ports.map((port) => port.stop()));
  }

  set conntrackNearFull(nearFull: boolean) {
    for (const port of this.#ports) port.conntrackNearFull = nearFull;
  }

  get alive(): boolean {
    return this.#ports.every(({ alive }) => alive);
  }
}
