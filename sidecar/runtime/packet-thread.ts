/**
 * A packet thread: its queues of the kernel's, a rewriter and a checkpoint of its own. It sleeps in native code, where no event
 * of JavaScript runs, so the main thread posts a message and then wakes it; it looks for messages at each turn.
 * It logs by message and counts in shared memory.
 */
import { setImmediate } from 'node:timers/promises';
import { type MessagePort, workerData } from 'node:worker_threads';
import { TcpcryptError } from '../../errors/catalogue.ts';
import { ConnectionState, markLayout, verdictMark } from '../../netfilter/marks.ts';
import { compilePolicy } from '../../policy/evaluate.ts';
import { useHmac } from '../crypto/kdf.ts';
import { systemRandom } from '../crypto/key-exchange.ts';
import { KeyStock } from '../crypto/key-stock.ts';
import { parseSockDiag, Queue, RawSender, sockDiag } from '../nfqueue-bindings/index.ts';
import { nativeMlKem768, nativeX25519 } from '../nfqueue-bindings/key-exchange.ts';
import { nativeHmac, nativeSuites } from '../nfqueue-bindings/suites.ts';
import { Rewriter } from '../rewriter/rewriter.ts';
import type { RewriterMachine, SocketInfo } from '../rewriter/types.ts';
import { Administration } from './administration.ts';
import { CheckpointLog, checkpointFile, openStateDirectory, refuseOtherWorkers } from './checkpoint.ts';
import { monotonicMs } from './clock.ts';
import { KeyLog } from './keylog.ts';
import { cells, type FromPacketThread, type PacketThreadOptions } from './messages.ts';
import { prepareSeries } from './metrics.ts';
import { createObserver, limitLog, type SendLog } from './observer.ts';
import { kinds, PacketLoop } from './packet-loop.ts';
import { createClassifier, parseBlocks } from './peers.ts';
import { Counters } from './shared-counters.ts';

export interface PacketThreadData {
  readonly port: MessagePort;
  readonly counterMemory: SharedArrayBuffer;
  readonly cellMemory: SharedArrayBuffer;
  readonly options: PacketThreadOptions;
}

/** Packets that the kernel keeps for a queue; held ones count. */
const SETUP_QUEUE_PACKETS = 8192;
const DATA_QUEUE_PACKETS = 16_384;
const SUPER_SEGMENT_QUEUE_PACKETS = 4096;
/** Half a megabyte: what a core's cache still holds when it is encrypted and sent. */
const SUPER_SEGMENT_BATCH = 8;
/** Of 64 KiB each, what several connections' windows hold. Taken only while it is needed. */
const SUPER_SEGMENT_BUFFER_BYTES = 64 << 20;
/** Numbers that are not counted as they change are refreshed this often. */
const IDLE_TURN_MS = 1000;
/**
 * After so long the thread goes once through its event loop: garbage collection leaves it tasks, which would
 * otherwise pile up.
 */
const EVENT_LOOP_EVERY_MS = 1000;

const { port, counterMemory, cellMemory, options } = workerData as PacketThreadData;
const post = (message: FromPacketThread): void => port.postMessage(message);
const log: SendLog = limitLog(
  (level, message, fields) => post({ kind: 'log', level, message, fields }),
  monotonicMs,
);
const counters = new Counters(counterMemory, (series) => post({ kind: 'series', series }));
const shared = new Float64Array(cellMemory);

try {
  await run();
} catch (error) {
  const code = error instanceof TcpcryptError ? error.code : 'ERR_TCPCRYPT_INTERNAL';
  const message = error instanceof TcpcryptError ? error.message : String((error as Error).stack ?? error);
  post({ kind: 'failed', code, message });
}

async function run(): Promise<void> {
  useHmac(nativeHmac);
  prepareSeries((name, labels) => counters.slot(name, labels));
  if (options.stateDir !== undefined) openStateDirectory(options.stateDir);
  // The queues first: whoever has bound them owns the state directory as well.
  using setup = new Queue({
    number: options.setupQueue,
    gso: false,
    failOpen: !options.strict,
    maxLength: SETUP_QUEUE_PACKETS,
  });
  using data = new Queue({
    number: options.dataQueue,
    gso: false,
    failOpen: false,
    maxLength: DATA_QUEUE_PACKETS,
  });
  using superSegment = new Queue({
    number: options.superSegmentQueue,
    gso: true,
    failOpen: false,
    maxLength: SUPER_SEGMENT_QUEUE_PACKETS,
    batch: SUPER_SEGMENT_BATCH,
    receiveBufferBytes: SUPER_SEGMENT_BUFFER_BYTES,
  });
  const { worker } = options;
  const layout = markLayout(options.markMask, options.injectMark);
  using none = new RawSender({ mark: options.injectMark });
  using offered = new RawSender({ mark: verdictMark(layout, ConnectionState.offered, worker) });
  using tcpcrypt = new RawSender({ mark: verdictMark(layout, ConnectionState.tcpcrypt, worker) });
  const store = openStore();
  const keyLog = openKeyLog();
  const observer = createObserver({
    counters,
    classify: createClassifier(parseBlocks(options.clusterCidrs), parseBlocks(options.nodeCidrs)),
    log,
    verbose: options.verbose,
    keyLog,
  });
  const stock = new KeyStock(systemRandom, { x25519: nativeX25519, mlKem768: nativeMlKem768 });
  const policy = compilePolicy(options.policy);
  // A key that takes long to make is begun with.
  for (const id of policy.keyExchanges) stock.exchanges.get(id)?.prepare?.();
  const queues = { setup, data, super_segment: superSegment };
  const loop = new PacketLoop({
    queues,
    poller: Queue.poller(kinds.map((kind) => queues[kind])),
    senders: { none, offered, tcpcrypt },
    ahead: stock,
    createMachine: (output) =>
      new Rewriter({
        output,
        observer,
        policy,
        random: systemRandom,
        encodings: options.encodings,
        suites: nativeSuites,
        trustKeys: options.trustKeys,
        keyExchanges: stock.exchanges,
        keyLog: keyLog !== undefined,
        nearFull: () => shared[cells.conntrackNearFull] === 1,
        ...(store && { store }),
      }),
    layout,
    worker,
    strict: options.strict,
    counters,
    log,
    now: monotonicMs,
  });

  let restored = 0;
  const records = store?.records() ?? new Map<string, Uint8Array>();
  if (records.size > 0) {
    loop.administer((machine) => {
      restored = machine.restore([...records], kernelSockets(), monotonicMs());
    });
  }
  beat(loop.machine);
  post({ kind: 'ready', wakeFd: setup.wakeFd, restored });
  await turn(loop);
  store?.close();
  keyLog?.close();
  post({ kind: 'stopped' });
}

/** Turns until the main thread says stop. */
async function turn(loop: PacketLoop): Promise<void> {
  const administration = new Administration(loop, options.policy, port);
  let eventLoopDue = monotonicMs() + EVENT_LOOP_EVERY_MS;
  let beatDue = 0;
  // Messages may have come before the first wait.
  administration.turn();
  while (!administration.stopped) {
    const woken = loop.turn(administration.busy ? 0 : IDLE_TURN_MS);
    if (woken || administration.busy) administration.turn();
    const now = loop.nowMs;
    if (now >= beatDue) {
      beat(loop.machine);
      beatDue = now + IDLE_TURN_MS / 2;
    }
    if (now < eventLoopDue) continue;
    loop.flush();
    await setImmediate();
    eventLoopDue = now + EVENT_LOOP_EVERY_MS;
  }
  loop.flush();
}

/** Shows that the thread is alive, and how much there is of what. */
function beat(machine: RewriterMachine): void {
  shared[cells.heartbeatMs] = monotonicMs();
  const { setup, encrypted, plain, cachedSessions, sharedListings } = machine.counts();
  for (const [state, count] of Object.entries({ setup, encrypted, plain })) {
    counters.set(counters.slot('tcpcrypt_connections', { state }), count);
  }
  counters.set(counters.slot('tcpcrypt_session_cache_entries'), cachedSessions);
  counters.set(counters.slot('tcpcrypt_shared_negative_list_entries'), sharedListings);
}

function openKeyLog(): KeyLog | undefined {
  if (options.keyLogFile === undefined) return undefined;
  return new KeyLog(options.keyLogFile, ({ message }) => log('error', 'key log', { error: message }));
}

function openStore(): CheckpointLog | undefined {
  const { stateDir, worker, workers } = options;
  if (stateDir === undefined) return undefined;
  if (worker === 0) refuseOtherWorkers(stateDir, workers);
  const errors = counters.slot('tcpcrypt_checkpoint_errors_total');
  const report = ({ code, message }: TcpcryptError): void => {
    counters.add(errors);
    log('error', 'checkpoint', { code, error: message });
  };
  return new CheckpointLog(stateDir, report, checkpointFile(worker, workers));
}

function kernelSockets(): SocketInfo[] {
  return ([4, 6] as const).flatMap((family) => parseSockDiag(sockDiag({ family }), family));
}
