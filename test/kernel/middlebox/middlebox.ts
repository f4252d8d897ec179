/**
 * A middlebox as a process: takes the packets of an NFQUEUE in its network namespace, does to each what its
 * chain says, and lets go of what comes out.
 *
 *     middlebox.ts QUEUE KIND[,OPTION=VALUE]… …       kinds: see kinds.ts
 *
 * Writes `ready`, then, at SIGTERM, one line of JSON: what it counted.
 */
import { setImmediate } from 'node:timers/promises';
import { descriptor, Queue, RawSender, verdicts } from '../../../sidecar/nfqueue-bindings/index.ts';
import { parseKind } from './kinds.ts';
import { build, parse, type TcpPacket } from './packet.ts';
import { Chain, type Departure } from './transformation.ts';

/** Packets that wait for their time, earliest first, in the order they came. */
class Waiting {
  readonly #waiting: { readonly at: number; readonly packet: TcpPacket }[] = [];

  add(at: number, packet: TcpPacket): void {
    let place = this.#waiting.length;
    while (place > 0 && this.#waiting[place - 1].at > at) place--;
    this.#waiting.splice(place, 0, { at, packet });
  }

  *due(now: number): Generator<TcpPacket> {
    while (this.#waiting.length > 0 && this.#waiting[0].at <= now) yield this.#waiting.shift()!.packet;
  }

  /** Milliseconds until the next, at most `most`. */
  untilNext(now: number, most: number): number {
    return Math.max(0, Math.min(most, (this.#waiting[0]?.at ?? Infinity) - now));
  }
}

async function main(number: number, chain: Chain): Promise<void> {
  let stopped = false;
  process.once('SIGTERM', () => {
    stopped = true;
  });
  // Without the GSO flag the kernel cuts super-segments and completes checksums before they come here.
  using queue = new Queue({ number, gso: false, failOpen: false, maxLength: 8192 });
  // What a router sends of its own does not pass FORWARD, so it needs no mark to come by its own rule.
  using sender = new RawSender({ mark: 0 });
  const waiting = new Waiting();

  const letGo = (packet: TcpPacket): void => {
    if (!sender.send(build(packet))) chain.counters['unsendable'] = (chain.counters['unsendable'] ?? 0) + 1;
  };
  const handle = (bytes: Buffer, id: number): void => {
    const packet = parse(bytes);
    const now = performance.now();
    const leaving = packet ? chain.handle(packet, now) : [];
    if (!packet) {
      queue.verdict(id, verdicts.accept);
      return;
    }
    if (leaving.length === 1 && leaving[0].delayMs === 0) {
      queue.verdict(id, verdicts.accept, { payload: build(leaving[0].packet) });
      return;
    }
    queue.verdict(id, verdicts.drop);
    // Verdicts so far first, so that packets leave in the order in which they came.
    queue.flush();
    for (const each of leaving) depart(each, now);
  };
  const depart = ({ packet, delayMs }: Departure, now: number): void => {
    if (delayMs === 0) letGo(packet);
    else waiting.add(now + delayMs, packet);
  };

  process.stdout.write('ready\n');
  while (!stopped) {
    const count = queue.receive(waiting.untilNext(performance.now(), 20));
    for (const packet of waiting.due(performance.now())) letGo(packet);
    for (let i = 0; i < count; i++) {
      const at = i * descriptor.stride;
      const offset = queue.descriptors[at + descriptor.offset];
      const length = queue.descriptors[at + descriptor.length];
      handle(queue.ring.subarray(offset, offset + length), queue.descriptors[at + descriptor.id]);
    }
    queue.flush();
    await setImmediate();
  }
  process.stdout.write(`${JSON.stringify(chain.counters)}\n`);
}

const [number, ...names] = process.argv.slice(2);
await main(Number(number), new Chain(names.map(parseKind)));
