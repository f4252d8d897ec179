/**
 * `tcpcrypt-node-agent run`: puts the process together. The plugin's socket comes first and the entry that leads to it
 * last; at the end it is the other way round, and only where the release is being uninstalled.
 */
import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { probe } from '../../netfilter/namespace.ts';
import { settingsWritable } from '../../netfilter/sysctls.ts';
import { errorFields, type Logger } from '../../observability/log.ts';
import { createMetricsServer, type ListenAddress, listenOnPort } from '../../observability/metrics-server.ts';
import { listenOnPath } from '../../observability/unix-socket.ts';
import { Attachments } from './attachments.ts';
import { Cluster } from './cluster.ts';
import type { RunOptions } from './commands.ts';
import { PLUGIN_TYPE } from './installer/conflist.ts';
import { Installer, type InstallerStatus } from './installer/installer.ts';
import { Keeper } from './keeper.ts';
import { Metrics } from './metrics.ts';
import { NodeWriter, nodeState } from './node-status.ts';
import { createPluginServer } from './plugin-server.ts';
import type { Pod } from './pod.ts';
import { PodRules } from './pod-rules.ts';
import { Reports } from './reports.ts';
import type { CniRequest } from './request.ts';
import { SidecarClient } from './sidecar-client.ts';
import { Sidecars } from './sidecars.ts';
import { type CniAnswer, perform, type VerbParts } from './verbs.ts';

const SOCKET_MODE = 0o600;
const COUNT_PODS_MS = 5000;
const LISTEN_AGAIN_MS = 30_000;
/** The plugin's own deadline. */
const ANSWER_WITHIN_MS = 2000;
/** In the image, and in a working tree. */
const EXECUTABLES = [
  '/usr/bin/tcpcrypt-node',
  fileURLToPath(new URL('../executable/build/tcpcrypt-node', import.meta.url)),
];

/** Runs until SIGTERM or SIGINT. Throws what kept it from running. */
export async function run(options: RunOptions, log: Logger, version: string): Promise<void> {
  const stopped = stopSignal();
  const { nodeName, namespace, daemonSet, kubeconfig } = options;
  const metrics = new Metrics();
  metrics.set('tcpcrypt_agent_build_info', 1, { version, node: process.version });
  const cluster = new Cluster({ kubeconfig, nodeName, namespace, daemonSet, log });
  const able = await probe();
  const supported = (): boolean => able.variant !== undefined;
  metrics.set('tcpcrypt_agent_node_supported', supported() ? 1 : 0);
  if (!supported()) log.error({ reasons: able.reasons }, 'this node cannot do it: its pods run plain');

  mkdirSync(options.stateDir, { recursive: true, mode: 0o700 });
  const attachments = new Attachments(join(options.stateDir, 'attachments'));
  const podRules = new PodRules(options.variant);
  const reports = new Reports(cluster.core, nodeName, log);
  const leftAlone: VerbParts['leftAlone'] = (pod, reason, message) => {
    metrics.count('tcpcrypt_agent_pods_left_alone_total', { reason });
    reports.leftAlone(pod, reason, message);
  };
  const client = new SidecarClient(options.kubeletDir);
  const policyFor = (pod: Pod): string | undefined => cluster.policyFor(pod);
  const sidecars = new Sidecars({ client, policyFor, metrics, log, collectMs: options.collectMs });
  const keeper = new Keeper({
    ...{ attachments, podRules, supported, leftAlone, log, everyMs: options.keepMs },
    pods: () => cluster.pods(),
    ruleLayout: (uid) => client.ruleLayout(uid),
    mended: (result) => metrics.count('tcpcrypt_agent_rules_mended_total', { result }),
  });
  follow(cluster, sidecars, keeper);

  const parts: VerbParts = {
    ...{ attachments, podRules, supported, leftAlone, log },
    findPod: (pod) => cluster.findPod(pod),
  };
  const server = createPluginServer(
    (request) => timed(request, parts, metrics),
    (error) => log.error(errorFields(error), 'a call of the plugin could not be answered'),
  );
  await listenOnPath(server, options.socket, SOCKET_MODE);

  const node = new NodeWriter(cluster.core, nodeName, log);
  const say = (status: InstallerStatus | undefined): void => {
    metrics.set('tcpcrypt_agent_chained', status?.chained ? 1 : 0);
    node.say(nodeState({ able, settings: settingsWritable() }, status));
  };
  let losses = 0;
  const installer = createInstaller(options, log, (status) => {
    metrics.count('tcpcrypt_agent_entry_losses_total', {}, status.losses - losses);
    losses = status.losses;
    say(status);
  });
  if (installer === undefined) say(undefined);
  installer?.start();

  let ready = false;
  const state = { text: () => metrics.text(), healthy: () => server.listening, ready: () => ready };
  const scraped = createMetricsServer(state, (error) => log.error(errorFields(error), 'a scrape failed'));
  const listening = options.metricsListen && keepListening(scraped, options.metricsListen, log);
  void cluster.synced.then(() => {
    ready = true;
    sidecars.begin();
    keeper.start();
    log.info({ version, node: nodeName, variant: options.variant ?? able.variant }, 'ready');
  });
  const counting = setInterval(() => countPods(cluster, sidecars, keeper, metrics), COUNT_PODS_MS);

  await stopped;
  log.info({}, 'stopping');
  clearInterval(counting);
  sidecars.stop();
  const takeBack = async (): Promise<boolean> => {
    if (!(await cluster.uninstalled())) return false;
    // Side by side: the node's object can be written only as long as the rights are there.
    await Promise.all([node.retract(), installer?.uninstall()]);
    return true;
  };
  const [uninstalled] = await Promise.all([takeBack(), keeper.stop()]);
  installer?.stop();
  node.stop();
  cluster.stop();
  clearInterval(listening);
  for (const each of [server, scraped]) await close(each);
  if (uninstalled) attachments.clear();
}

/** What becomes of the pods of the node, told on. */
function follow(cluster: Cluster, sidecars: Sidecars, keeper: Keeper): void {
  cluster.onPod((pod, what) => {
    if (what === 'delete') {
      sidecars.forget(pod.uid);
      keeper.forget(pod.uid);
    } else {
      sidecars.see(pod);
      keeper.notice(pod);
    }
  });
  cluster.onPolicies((namespace) => sidecars.policiesChanged(namespace));
}

async function timed(request: CniRequest, parts: VerbParts, metrics: Metrics): Promise<CniAnswer> {
  const { command } = request;
  const began = performance.now();
  let result = 'error';
  try {
    const answer = await perform(request, parts);
    if (answer.code === 0) result = 'success';
    return answer;
  } finally {
    metrics.count('tcpcrypt_agent_cni_requests_total', { command, result });
    metrics.observe(
      'tcpcrypt_agent_cni_request_duration_seconds',
      { command },
      (performance.now() - began) / 1000,
    );
  }
}

function createInstaller(
  { cni, socket, agentUnavailable, exemptNamespaces, executable }: RunOptions,
  log: Logger,
  onChange: (status: InstallerStatus) => void,
): Installer | undefined {
  if (cni === undefined) return undefined;
  const entry = { type: PLUGIN_TYPE, agentSocket: socket, agentUnavailable, exemptNamespaces } as const;
  const found = executable ?? EXECUTABLES.find((path) => existsSync(path)) ?? EXECUTABLES[0]!;
  return new Installer({ ...cni, executable: found, entry, log, onChange });
}

function countPods(cluster: Cluster, sidecars: Sidecars, keeper: Keeper, metrics: Metrics): void {
  const counts = { programmed: 0, pending: 0, unreachable: 0 };
  for (const { uid, sidecar, ending } of cluster.pods()) {
    if (sidecar === undefined || ending) continue;
    if (sidecar.started && !sidecars.isReachable(uid)) counts.unreachable++;
    else if (keeper.hasRules(uid) && sidecars.isProgrammed(uid)) counts.programmed++;
    else counts.pending++;
  }
  for (const [state, count] of Object.entries(counts)) metrics.set('tcpcrypt_agent_pods', count, { state });
}

/** A port in use keeps nothing from working: it is logged and tried again. */
function keepListening(server: Server, address: ListenAddress, log: Logger): NodeJS.Timeout {
  const listen = async (): Promise<void> => {
    if (server.listening) return;
    try {
      await listenOnPort(server, address);
    } catch (error) {
      log.error({ ...address, error: (error as Error).message }, 'metrics are not served; tried again later');
    }
  };
  void listen();
  return setInterval(listen, LISTEN_AGAIN_MS).unref();
}

function stopSignal(): Promise<unknown> {
  return Promise.race(['SIGTERM', 'SIGINT'].map((signal) => once(process, signal)));
}

/** Calls that were begun are answered first: a pod waits for them. */
async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  server.close();
  server.closeIdleConnections();
  const late = setTimeout(() => server.closeAllConnections(), ANSWER_WITHIN_MS);
  await once(server, 'close');
  clearTimeout(late);
}
