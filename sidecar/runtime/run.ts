/**
 * `tcpcrypt run`: puts the process together. Packets are the packet threads' (packet-thread.ts); everything else, which
 * may take its time, is here: settings, the API, metrics, the list of sockets, the log, the end.
 */
import { once } from 'node:events';
import type { Server } from 'node:http';
import { TcpcryptError } from '../../errors/catalogue.ts';
import { type QueueRange, RULE_LAYOUT } from '../../netfilter/rules.ts';
import { errorFields, type Logger } from '../../observability/log.ts';
import { createMetricsServer, type ListenAddress, listenOnPort } from '../../observability/metrics-server.ts';
import { listenOnPath } from '../../observability/unix-socket.ts';
import { parseSockDiag, sockDiag } from '../nfqueue-bindings/index.ts';
import type { SocketInfo } from '../rewriter/types.ts';
import { abortSockets, type Ends } from './abort.ts';
import { type Backend, createApi } from './api.ts';
import type { RunOptions } from './arguments.ts';
import { openStateDirectory } from './checkpoint.ts';
import { untilFinished } from './drain.ts';
import { gateways, isConntrackNearFull, queueDrops } from './kernel-state.ts';
import { keyLogVariable } from './keylog.ts';
import { Metrics } from './metrics.ts';
import { requireCapabilities } from './privileges.ts';
import { ensureRules, installRules, removeRules } from './rules.ts';
import { Settings } from './settings.ts';
import { CounterReader } from './shared-counters.ts';
import { policySchema, version } from './version.ts';
import { Workers } from './workers.ts';

const APPLICATION_SOCKET_MODE = 0o666;
const CONTROL_SOCKET_MODE = 0o600;
const WATCH_CONNTRACK_MS = 1000;
const LISTEN_AGAIN_MS = 30_000;

/** Runs until a signal or a failure. Throws what kept it from running. */
export async function run(options: RunOptions, log: Logger): Promise<void> {
  requireCapabilities();
  const stop = stopSignals();
  const reader = new CounterReader();
  const metrics = new Metrics(reader);
  if (options.stateDir !== undefined) openStateDirectory(options.stateDir);
  const settings = new Settings({ ...options, log, metrics });
  const keyLogFile = process.env[keyLogVariable] || undefined;
  metrics.set('tcpcrypt_keylog_enabled', {}, keyLogFile === undefined ? 0 : 1);
  metrics.set('tcpcrypt_build_info', { version, node: process.version }, 1);
  if (keyLogFile !== undefined) {
    log.warn({ file: keyLogFile }, 'the secrets of all connections are written to the key log');
  }

  if (settings.policy.mode === 'Strict' && !options.rules.strict) {
    log.warn('policy is Strict, but new connections go plain while this process is away: see --strict');
  }

  const died = Promise.withResolvers<never>();
  died.promise.catch(() => {});
  const shared = {
    keyLogFile,
    policy: settings.policy,
    trustKeys: settings.trustKeys,
    verbose: log.isLevelEnabled('debug'),
  };
  const packets = await Workers.start(
    packetOptions(options).map((each) => ({ ...each, ...shared })),
    reader,
    {
      log: ({ level, message, fields }) => log[level](fields, message),
      died: died.reject,
    },
  );
  let draining = false;
  const backend: Backend = {
    connections: (ends) => packets.connections(ends),
    setAppSupport: (port, support) => packets.setAppSupport(port, support),
    flushSessionCache: () => packets.flushSessionCache(),
    shareNegativeList: (entries) => packets.shareNegativeList(entries),
    healthy: () => packets.alive,
    metrics: async () => {
      metrics.replace('tcpcrypt_queue_dropped_packets_total', dropsByQueue(options));
      return await metrics.text();
    },
    setPolicy: async (text) => settings.setPolicy(text),
    setKeys: async (text) => settings.setKeys(text),
    version: () => ({ version, ruleLayout: RULE_LAYOUT, policySchema }),
  };
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => packets.stop());
  const failed = (error: unknown) => log.error(errorFields(error), 'a request could not be answered');
  for (const [kind, path, mode] of [
    ['application', options.apiSocket, APPLICATION_SOCKET_MODE],
    ['control', options.controlSocket, CONTROL_SOCKET_MODE],
  ] as const) {
    if (path === undefined) continue;
    const server = createApi(kind, backend, failed);
    await listenOnPath(server, path, mode);
    cleanup.defer(() => close(server));
  }
  if (options.metricsListen !== undefined) {
    const source = { text: backend.metrics, healthy: backend.healthy, ready: () => !draining };
    cleanup.use(serveMetrics(options.metricsListen, source, metrics, log));
  }
  settings.start(packets);
  cleanup.defer(() => settings.close());
  process.on('SIGHUP', () => settings.reload());
  if (options.installRules) await installRules(options.rules, log);
  else if (options.ensureRules) await ensureRules(options.rules, log);

  const timers = [
    setInterval(() => reconcile(packets, log), options.reconcileMs),
    setInterval(() => {
      packets.conntrackNearFull = isConntrackNearFull();
    }, WATCH_CONNTRACK_MS),
  ];
  cleanup.defer(() => timers.forEach(clearInterval));
  log.info({ version, restored: packets.restored, queue: options.rules.setupQueues.first }, 'ready');
  process.stdout.write('ready\n');

  const signal = await Promise.race([stop.first, died.promise]);
  draining = true;
  log.info({ signal, graceSeconds: options.graceMs / 1000 }, 'stopping');
  packets.drain();
  const part = { connections: () => packets.connections(), sockets };
  const left = await Promise.race([untilFinished(part, options.graceMs), stop.second, died.promise]);
  if (left > 0) log.warn({ connections: left }, 'stopped with data that is not acknowledged');
  if (options.installRules) await takeRulesOut(packets, log);
}

/** For each worker. */
function packetOptions({ rules, stateDir, encoding, clusterCidrs, nodeCidrs }: RunOptions) {
  const workers = rules.setupQueues.count;
  return Array.from({ length: workers }, (_, worker) => ({
    worker,
    workers,
    setupQueue: rules.setupQueues.first + worker,
    dataQueue: rules.dataQueues.first + worker,
    superSegmentQueue: rules.superSegmentQueues.first + worker,
    markMask: rules.mask,
    injectMark: rules.injectMark,
    strict: rules.strict,
    encodings: { write: encoding, readBoth: encoding === 'legacy' },
    stateDir,
    clusterCidrs,
    // In a pod its node's, which kubelet's probes come from: most networks give that another address than the node has.
    nodeCidrs: nodeCidrs.length > 0 ? [...nodeCidrs, ...gateways()] : nodeCidrs,
  }));
}

/** The signal that came first; a second one ends the waiting, with an unknown number of connections left. */
function stopSignals(): { first: Promise<string>; second: Promise<number> } {
  const first = Promise.withResolvers<string>();
  const second = Promise.withResolvers<number>();
  let seen = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (seen) second.resolve(Number.NaN);
      seen = true;
      first.resolve(signal);
    });
  }
  return { first: first.promise, second: second.promise };
}

/** A port in use never keeps traffic from flowing: it is logged, counted, and tried again. */
function serveMetrics(
  address: ListenAddress,
  source: Parameters<typeof createMetricsServer>[0],
  metrics: Metrics,
  log: Logger,
): AsyncDisposable {
  const server = createMetricsServer(source, (error) => log.error(errorFields(error), 'a scrape failed'));
  let again: NodeJS.Timeout | undefined;
  const listen = async (): Promise<void> => {
    try {
      await listenOnPort(server, address);
      log.info({ ...address }, 'metrics are served');
    } catch (error) {
      metrics.add('tcpcrypt_listen_errors_total', { listener: 'metrics' });
      log.error({ ...address, error: (error as Error).message }, 'metrics are not served; tried again later');
      again = setTimeout(listen, LISTEN_AGAIN_MS).unref();
    }
  };
  void listen();
  return {
    async [Symbol.asyncDispose]() {
      clearTimeout(again);
      await close(server);
    },
  };
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  server.close();
  server.closeAllConnections();
  await once(server, 'close');
}

function dropsByQueue({ rules }: RunOptions) {
  const drops = queueDrops();
  const of = ({ first, count }: QueueRange) =>
    Array.from({ length: count }, (_, worker) => drops.get(first + worker) ?? 0).reduce(
      (sum, each) => sum + each,
    );
  return [
    [{ queue: 'setup' }, of(rules.setupQueues)],
    [{ queue: 'data' }, of(rules.dataQueues)],
    [{ queue: 'super_segment' }, of(rules.superSegmentQueues)],
  ] as const;
}

function reconcile(packets: Workers, log: Logger): void {
  if (!packets.alive) return;
  try {
    packets.reconcile(sockDiag({ family: 4 }), sockDiag({ family: 6 }));
  } catch (error) {
    log.error(errorFields(error), "the kernel's sockets cannot be listed");
  }
}

function sockets(): SocketInfo[] {
  return ([4, 6] as const).flatMap((family) => parseSockDiag(sockDiag({ family }), family));
}

/** Linux's number of a state in which a socket has nothing left to say. */
const TIME_WAIT = 6;

/** Encrypted connections, and those on the way there, whose socket may still send data. */
async function encryptedSockets(packets: Workers): Promise<Ends[]> {
  const able = sockets().filter(({ state }) => state !== TIME_WAIT);
  const living = new Set(able.map(({ local, remote }) => `${local} ${remote}`));
  const found: Ends[] = [];
  for await (const chunk of packets.connections()) {
    found.push(
      ...chunk.filter(({ state, local, remote }) => state !== 'plain' && living.has(`${local} ${remote}`)),
    );
  }
  return found;
}

/** While rules are there a packet of an encrypted connection cannot leave in plain text; so these end first. */
async function takeRulesOut(packets: Workers, log: Logger): Promise<void> {
  const encrypted = await encryptedSockets(packets);
  if (encrypted.length > 0) {
    log.warn({ connections: encrypted.length }, 'encrypted connections are reset: the rules go');
    await abortSockets(encrypted);
    const left = (await encryptedSockets(packets)).length;
    if (left > 0) {
      throw new TcpcryptError(
        'ERR_TCPCRYPT_RULES_REMOVE',
        `${left} encrypted connections are still open and would go on in plain text; the rules stay: ` +
          'close them, then run `tcpcrypt rules remove`',
      );
    }
  }
  await removeRules();
}
