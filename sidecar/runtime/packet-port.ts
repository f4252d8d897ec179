/** The main thread's end of one packet thread: messages out with a wake-up, answers back by id. */
import { extname } from 'node:path';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { TcpcryptError } from '../../errors/catalogue.ts';
import type { PolicyDocument } from '../../policy/document.ts';
import { wake } from '../nfqueue-bindings/index.ts';
import type { Listed } from '../protocol/negative-list.ts';
import type { TrustKey } from '../protocol/types.ts';
import type { AppSupport, ConnectionInfo } from '../rewriter/types.ts';
import { monotonicMs } from './clock.ts';
import {
  cells,
  createCells,
  type FromPacketThread,
  type PacketThreadOptions,
  type ToPacketThread,
} from './messages.ts';
import type { CounterSource } from './shared-counters.ts';

/** Without a sign of life for so long the packet thread counts as stuck. */
const HEARTBEAT_LIMIT_MS = 5000;
/**
 * For new objects of the packet thread: three semi-spaces, which keep their size once set-ups have filled them. By default
 * they may take 96 MiB; packets of encrypted connections make no objects, and set-ups take at most a few percent longer with these.
 */
const YOUNG_GENERATION_MIB = 12;

export interface PacketPortEvents {
  readonly log: (message: FromPacketThread & { kind: 'log' }) => void;
  /** The thread ended, or failed, without having been told to. */
  readonly died: (error: TcpcryptError) => void;
}

interface Pending {
  readonly found: (items: readonly unknown[]) => void;
  readonly done: () => void;
  readonly failed: (error: TcpcryptError) => void;
}

type Request<T> = T extends { readonly id: number } ? Omit<T, 'id'> : never;

export class PacketPort {
  /** Connections that were taken back from a checkpoint. */
  restored = 0;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #cells: Float64Array;
  readonly #counters: CounterSource;
  readonly #events: PacketPortEvents;
  readonly #pending = new Map<number, Pending>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #stopped = Promise.withResolvers<void>();
  #stopping = false;
  #wakeFd = -1;
  #lastId = 0;

  /** Starts the thread. Throws what keeps it from handling packets. */
  static async start(
    options: PacketThreadOptions,
    counters: CounterSource,
    events: PacketPortEvents,
  ): Promise<PacketPort> {
    const port = new PacketPort(options, counters, events);
    await port.#ready.promise;
    return port;
  }

  private constructor(options: PacketThreadOptions, counters: CounterSource, events: PacketPortEvents) {
    const cellMemory = createCells();
    const { port1, port2 } = new MessageChannel();
    this.#counters = counters;
    this.#cells = new Float64Array(cellMemory);
    this.#port = port1;
    this.#events = events;
    this.#port.on('message', (message: FromPacketThread) => this.#receive(message));
    // The thread's module beside this one, in the sources and as scripts/bundle.ts names it.
    const extension = extname(import.meta.url);
    this.#worker = new Worker(new URL(`./packet-thread${extension}`, import.meta.url), {
      workerData: { port: port2, counterMemory: counters.memory, cellMemory, options },
      transferList: [port2],
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MIB },
    });
    this.#worker.on('error', (error) => this.#end(internal(String(error))));
    this.#worker.on('exit', () => this.#end(internal('the packet thread ended')));
  }

  setPolicy(document: PolicyDocument): void {
    this.#send({ kind: 'policy', document });
  }

  setTrustKeys(keys: readonly TrustKey[]): void {
    this.#send({ kind: 'keys', keys });
  }

  /** Two dumps of `sockDiag`. */
  reconcile(v4: Uint8Array, v6: Uint8Array): void {
    this.#send({ kind: 'sockets', v4, v6 });
  }

  async setAppSupport(port: number, support: AppSupport): Promise<void> {
    for await (const _ of this.#request({ kind: 'app-support', port, support }));
  }

  async flushSessionCache(): Promise<void> {
    for await (const _ of this.#request({ kind: 'flush-cache' }));
  }

  /** All connections, or those with the ends given, in pieces as the packet thread finds time. */
  connections(ends: { local?: string; remote?: string } = {}): AsyncIterable<readonly ConnectionInfo[]> {
    return this.#request({ kind: 'list', ...ends });
  }

  /** Gives what other sidecars of the node have on their negative lists; returns what is on this one's. */
  async shareNegativeList(entries: readonly Listed[]): Promise<readonly Listed[]> {
    const own: Listed[] = [];
    for await (const chunk of this.#request<Listed>({ kind: 'negative-list', entries })) own.push(...chunk);
    return own;
  }

  /** No new connection is offered tcpcrypt any more. */
  drain(): void {
    this.#send({ kind: 'drain' });
  }

  /** Ends the thread; packets that the kernel still holds for it are dropped. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#send({ kind: 'stop' });
    await this.#stopped.promise;
  }

  set conntrackNearFull(nearFull: boolean) {
    this.#cells[cells.conntrackNearFull] = nearFull ? 1 : 0;
  }

  get alive(): boolean {
    return monotonicMs() - this.#cells[cells.heartbeatMs]! < HEARTBEAT_LIMIT_MS;
  }

  #send(message: ToPacketThread): void {
    this.#port.postMessage(message);
    wake(this.#wakeFd);
  }

  async *#request<T = ConnectionInfo>(request: Request<ToPacketThread>): AsyncGenerator<readonly T[]> {
    const id = ++this.#lastId;
    const chunks: (readonly T[])[] = [];
    let next = Promise.withResolvers<void>();
    let done = false;
    let failure: TcpcryptError | undefined;
    this.#pending.set(id, {
      found: (items) => {
        chunks.push(items as readonly T[]);
        next.resolve();
      },
      done: () => {
        done = true;
        next.resolve();
      },
      failed: (error) => {
        failure = error;
        next.resolve();
      },
    });
    try {
      this.#send({ ...request, id } as ToPacketThread);
      for (;;) {
        await next.promise;
        next = Promise.withResolvers<void>();
        yield* chunks.splice(0);
        if (failure !== undefined) throw failure;
        if (done) return;
      }
    } finally {
      this.#pending.delete(id);
    }
  }

  #receive(message: FromPacketThread): void {
    switch (message.kind) {
      case 'ready':
        this.#wakeFd = message.wakeFd;
        this.restored = message.restored;
        return this.#ready.resolve();
      case 'failed':
        return this.#end(new TcpcryptError(message.code, message.message));
      case 'series':
        return this.#counters.announced(message.series);
      case 'log':
        return this.#events.log(message);
      case 'connections':
        return this.#pending.get(message.id)?.found(message.connections);
      case 'negative-list':
        return this.#pending.get(message.id)?.found(message.entries);
      case 'done': {
        const pending = this.#pending.get(message.id);
        return message.error === undefined ? pending?.done() : pending?.failed(internal(message.error));
      }
      case 'stopped':
        return this.#end(internal('the packet thread has stopped'));
    }
  }

  #end(error: TcpcryptError): void {
    this.#ready.reject(error);
    for (const pending of this.#pending.values()) pending.failed(error);
    this.#port.close();
    if (!this.#stopping && this.#wakeFd >= 0) this.#events.died(error);
    this.#stopping = true;
    this.#stopped.resolve();
  }
}

function internal(message: string): TcpcryptError {
  return new TcpcryptError('ERR_TCPCRYPT_INTERNAL', message);
}
