/**
 * The binding to the kernel: NFQUEUE in batches, raw packets out, Internet checksums, the list of TCP
 * sockets. The only native code of the project (src/), built by scripts/build-native.
 *
 * Invariant: JavaScript never hands the addon an address or a descriptor that the addon did not make, and
 * no number or buffer, however wrong, makes it read or write outside its own memory or the buffer given.
 *
 * ```ts
 * using queue = new Queue({ number: 0, gso: true, failOpen: false, maxLength: 4096 });
 * for (;;) {
 *   const count = queue.receive(timeoutMs);
 *   for (let at = 0; at < count * descriptor.stride; at += descriptor.stride) {
 *     const offset = queue.descriptors[at + descriptor.offset];
 *     const packet = queue.ring.subarray(offset, offset + queue.descriptors[at + descriptor.length]);
 *     queue.verdict(queue.descriptors[at + descriptor.id], verdicts.accept);
 *   }
 *   queue.flush();
 * }
 * ```
 */

import { coded, type NativePoller, type NativeQueue, type NativeRawSender, native } from './native.ts';

export { parseSockDiag } from './sock-diag.ts';

/** What becomes of a packet; `repeat` sends it through the hook's rules once more. */
export const verdicts = { drop: 0, accept: 1, repeat: 4 } as const;
export type VerdictNumber = (typeof verdicts)[keyof typeof verdicts];

/** The netfilter hooks, as a packet's descriptor names them. */
export const hooks = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const;

/**
 * Where the numbers of a packet stand in its descriptor: packet i has descriptors[i * stride + field].
 * `offset` and `length` say where its bytes are in the ring.
 */
export const descriptor = {
  id: 0,
  offset: 1,
  length: 2,
  hook: 3,
  mark: 4,
  inIfindex: 5,
  outIfindex: 6,
  flags: 7,
  stride: 8,
} as const;

/**
 * Bits of a descriptor's flags. `checksumNotReady`: the kernel has not computed the transport checksum yet
 * (it need not be touched in a packet that is accepted as it is, and must be complete in one that is
 * given back changed). `gso`: a super-segment. `cut`: the packet is longer than the bytes copied.
 */
export const packetFlags = { checksumNotReady: 1, gso: 2, cut: 4 } as const;

/** The longest packet that a verdict can carry: what a netlink attribute holds. */
export const maxPayloadBytes = 65531;

/** The ring has a slot of so many bytes for each packet of a batch: room for the longest there is. */
export const slotBytes = 66_560;

export interface QueueOptions {
  /** 0 to 65535. */
  readonly number: number;
  /** Super-segments come whole, up to 64 KiB; else the kernel cuts them first and completes checksums. */
  readonly gso: boolean;
  /** With the queue full, packets pass instead of being dropped. */
  readonly failOpen: boolean;
  /** Packets that the kernel holds for the queue at most, unread ones and those without a verdict. */
  readonly maxLength: number;
  /** Bytes of each packet that are copied; default 65535, of which netlink can hold 65531. */
  readonly copyRangeBytes?: number;
  /** Packets received, and full-size verdicts held, at a time; default 64, at most 1024. */
  readonly batch?: number;
  /** Size of the socket's receive buffer; default 16 MiB. */
  readonly receiveBufferBytes?: number;
  /** A network namespace, such as /run/netns/x or /proc/123/ns/net; default: the thread's own. */
  readonly netns?: string;
}

export interface QueueStats {
  /** Packets. */
  readonly received: number;
  /** Times that the socket's receive buffer overran, and packets were dropped (or passed) unseen. */
  readonly overruns: number;
  /** Verdicts that the kernel refused, for a packet that is gone above all. */
  readonly verdictErrors: number;
  /** Messages that were not understood. */
  readonly malformed: number;
}

export interface VerdictOptions {
  /** Replaces the packet; 1 to 65531 bytes with complete checksums, copied at once. */
  readonly payload?: Uint8Array | undefined;
  /** The packet mark, 32 bits; undefined leaves it. */
  readonly mark?: number | undefined;
}

/** id, start, end, whether there is a mark, mark; the first entry comes after a word with their number. */
const ACCEPTANCE_WORDS = 5;
const none: VerdictOptions = Object.freeze({});

/** A bound queue. Belongs to one thread; only `wake` (the function) may be called from others. */
export class Queue {
  readonly #native: NativeQueue;
  /** Packets accepted from the ring, as the addon reads them; it sets their number back to 0. */
  readonly #acceptances: Uint32Array;
  /**
   * Holds the packets of the last `receive`; the next one overwrites them. The 24 bytes before each packet, of its
   * netlink message, belong to nothing any more.
   */
  readonly ring: Buffer;
  readonly descriptors: Uint32Array;
  /** For `wake`, by any thread. */
  readonly wakeFd: number;
  readonly number: number;

  /**
   * Throws ERR_TCPCRYPT_NOT_ROOT, ERR_TCPCRYPT_QUEUE_BUSY, ERR_TCPCRYPT_NO_NFQUEUE or ERR_TCPCRYPT_NETLINK;
   * a TypeError or RangeError for an option that is wrong.
   */
  constructor(options: QueueOptions) {
    const { number, gso, failOpen, maxLength, copyRangeBytes = 0xffff, batch = 64, netns } = options;
    const { receiveBufferBytes = 16 << 20 } = options;
    this.#native = coded(
      () =>
        new native.Queue(number, gso, failOpen, maxLength, copyRangeBytes, batch, receiveBufferBytes, netns),
    );
    this.number = number;
    this.ring = Buffer.from(this.#native.ring);
    this.descriptors = new Uint32Array(this.#native.descriptors);
    this.#acceptances = new Uint32Array(this.#native.acceptances);
    this.wakeFd = this.#native.wakeFd;
  }

  /**
   * Waits until packets come, `timeoutMs` have passed (0: does not wait; negative: no limit) or another
   * thread calls `wake`. Returns how many packets there are. The thread does nothing else meanwhile: to
   * end a worker, wake it first.
   */
  receive(timeoutMs: number): number {
    this.#giveAccepted();
    return coded(() => this.#native.receive(timeoutMs));
  }

  /** Of 1 to 16 open queues. */
  static poller(queues: readonly Queue[]): Poller {
    return new Poller(coded(() => new native.Poller(...queues.map((queue) => queue.#native))));
  }

  /** Adds a verdict to the batch. A batch that is full is sent by itself; `flush` sends the rest. */
  verdict(id: number, verdict: VerdictNumber, options: VerdictOptions = none): void {
    this.#giveAccepted();
    this.#native.verdict(id, verdict, options.mark, options.payload);
  }

  /**
   * Accepts a packet with what ring[start, end) holds when the batch is sent, and with `mark` if there is one. Costs a
   * few words in memory; they, and the packet, are read when any other verdict is given or the batch is sent.
   */
  acceptInPlace(id: number, mark: number | undefined, start: number, end: number): void {
    const entries = this.#acceptances;
    if (entries[0]! * ACCEPTANCE_WORDS === entries.length - 1) this.#giveAccepted();
    const at = 1 + entries[0]!++ * ACCEPTANCE_WORDS;
    entries[at] = id;
    entries[at + 1] = start;
    entries[at + 2] = end;
    entries[at + 3] = mark === undefined ? 0 : 1;
    entries[at + 4] = mark ?? 0;
  }

  #giveAccepted(): void {
    if (this.#acceptances[0] !== 0) this.#native.acceptAll();
  }

  /** Sends the batch, in one system call. What the kernel refuses is counted, never thrown. */
  flush(): void {
    this.#native.flush();
  }

  stats(): QueueStats {
    return this.#native.stats();
  }

  get overruns(): number {
    return this.#native.stats().overruns;
  }

  get verdictErrors(): number {
    return this.#native.stats().verdictErrors;
  }

  /** Sends the batch, unbinds and closes; packets that the kernel still held are dropped. */
  close(): void {
    this.#giveAccepted();
    this.#native.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Several queues in turns: one call for what each turn asks of the kernel. Belongs to the queues' thread. */
export class Poller {
  readonly #native: NativePoller;
  /** now, whether it was woken, packets of each queue: as the addon writes them. */
  readonly #state: Float64Array;

  constructor(poller: NativePoller) {
    this.#native = poller;
    this.#state = new Float64Array(poller.state);
  }

  /**
   * Sends the verdicts of all queues; waits until one of them has packets, another thread calls `wake` for any of them,
   * `maxWaitMs` have passed (0: does not wait; negative: no limit) or it is `dueMs` on the clock of `nowMs`
   * (infinite: never), either rounded up to milliseconds; and receives what each queue has.
   */
  next(maxWaitMs: number, dueMs: number): void {
    coded(() => this.#native.next(maxWaitMs, dueMs));
  }

  /** Milliseconds of CLOCK_MONOTONIC when `next` returned. */
  get nowMs(): number {
    return this.#state[0]!;
  }

  /** Whether the last wait met a call of `wake`. */
  get woken(): boolean {
    return this.#state[1] !== 0;
  }

  /** Packets that the last `next` received from the queue with this index, in its ring now. */
  received(index: number): number {
    return this.#state[2 + index]!;
  }
}

/**
 * Makes the `receive` of the queue with this `wakeFd` return, now or when it is called next. Any thread
 * may call it. False if no open queue of this process has it.
 */
export function wake(wakeFd: number): boolean {
  return native.wake(wakeFd);
}

export interface RawSenderOptions {
  /** The mark of every packet sent. */
  readonly mark: number;
  readonly netns?: string;
}

/**
 * Sends whole IP packets of both families. One whose destination is an address of the host itself goes
 * over loopback to the local socket, whatever its source.
 */
export class RawSender {
  readonly #native: NativeRawSender;
  /** The errno of the last `send` that returned false; 0 before any. */
  lastErrno = 0;

  constructor(options: RawSenderOptions) {
    const { mark, netns } = options;
    this.#native = coded(() => new native.RawSender(mark, netns));
  }

  /**
   * Sends one packet; its lengths must agree with the buffer's. `ifindex` names the interface for a
   * link-local IPv6 destination. False if the packet is not whole (EINVAL) or the kernel refused it
   * (EMSGSIZE: longer than the MTU; ENOBUFS, EPERM, ENETUNREACH …): see `lastErrno`.
   */
  send(packet: Uint8Array, ifindex?: number): boolean {
    const errno = this.#native.send(packet, ifindex);
    if (errno !== 0) this.lastErrno = errno;
    return errno === 0;
  }

  close(): void {
    this.#native.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * The Internet checksum's sum (RFC 1071) over buffer[start, end): the one's complement sum of big-endian
 * 16-bit words, plus `initial`, folded to 16 bits and NOT inverted; so the results of parts that begin at
 * even offsets can be handed on as `initial`. An odd last byte counts as the high half of a word.
 */
export function checksum(buffer: Uint8Array, start: number, end: number, initial = 0): number {
  return native.checksum(buffer, start, end, initial);
}

/**
 * Writes the IPv4 header checksum and the TCP checksum of an IP packet, in place. False, and nothing is
 * written, if the buffer is not exactly one unfragmented TCP packet.
 */
export function completeChecksums(packet: Uint8Array): boolean {
  return native.completeChecksums(packet);
}

/**
 * Every TCP socket of one family (a dual-stack socket counts as IPv6), as netlink messages for
 * `parseSockDiag`. Throws ERR_TCPCRYPT_NETLINK, also if they would take more than 64 MiB.
 */
export function sockDiag(options: { readonly family: 4 | 6; readonly netns?: string }): Buffer {
  const { family, netns } = options;
  return coded(() => native.sockDiag(family, netns));
}
