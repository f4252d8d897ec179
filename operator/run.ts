/**
 * `tcpcrypt-operator run`: puts the process together. Every replica answers the webhook, from what it has in memory; one
 * of them leads: it looks after the certificate, policies, suspended namespaces and reports.
 */
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import { ENFORCE_LABEL } from '../kubernetes/names.ts';
import { errorFields, type Logger } from '../observability/log.ts';
import { createMetricsServer, listenOnPort } from '../observability/metrics-server.ts';
import { type CertificateSettings, keepCertificate, watchCertificate } from './certificates/keeper.ts';
import type { Pair } from './certificates/pair.ts';
import { type Cluster, connect, kubernetesError, within } from './cluster/client.ts';
import { EventWriter } from './cluster/events.ts';
import { ELECTION_TIMES, takePart } from './cluster/leader.ts';
import { type Namespaces, watchNamespaces } from './cluster/namespaces.ts';
import { type Config, readConfig } from './config.ts';
import { runPodsController } from './controllers/pods.ts';
import { runPoliciesController } from './controllers/policies.ts';
import { SuspensionReader, SuspensionWriter } from './controllers/suspensions.ts';
import { Metrics } from './metrics.ts';
import type { AdmissionContext } from './webhook/admission.ts';
import { createWebhookServer, tlsOptions } from './webhook/server.ts';

export interface RunOptions {
  readonly config: string;
  readonly namespace: string;
  readonly identity: string;
  readonly kubeconfig: string | undefined;
  readonly version: string;
}

const TIMEOUT_MS = 10_000;
const RETRY_MS = 2000;
/** After SIGTERM requests still come for a moment: the Service's endpoints change, then every node learns of it. */
const DRAIN_MS = 3000;

/** Runs until SIGTERM or SIGINT. Throws what kept it from running. */
export async function run(options: RunOptions, log: Logger): Promise<void> {
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort());
  const stopped = stop.signal;
  await using cleanup = new AsyncDisposableStack();
  // Whatever ends this, nothing may keep the process.
  cleanup.defer(() => stop.abort());
  const config = readConfig(options.config, options.namespace);
  const cluster = connect(options.kubeconfig);
  const metrics = new Metrics();
  metrics.set('tcpcrypt_operator_build_info', 1, { version: options.version, node: process.version });
  metrics.set('tcpcrypt_operator_leader', 0);
  const state: State = { serving: undefined, ready: false, stopping: false };
  const probes = createMetricsServer(
    { text: () => metrics.text(), healthy: () => true, ready: () => state.ready && !state.stopping },
    (error) => log.error(errorFields(error), 'a scrape failed'),
  );
  await listenOnPort(probes, { host: '::', port: config.metricsPort });
  cleanup.defer(() => close(probes));

  const namespaces = watchNamespaces(cluster, log);
  cleanup.defer(() => namespaces.informer.stop());
  const home = { cluster, namespace: options.namespace, log };
  const suspensions = new SuspensionReader({ ...home, name: config.suspensionsConfigMap });
  cleanup.defer(() => suspensions.informer.stop());
  metrics.beforeScrape(() => {
    const phases = Object.values(suspensions.entries).map(({ phase }) => phase);
    metrics.set(
      'tcpcrypt_operator_suspended_namespaces',
      phases.filter((phase) => phase === 'suspended').length,
    );
  });
  const admission = admissionContext(config, namespaces, suspensions, metrics);
  const certificate: CertificateSettings = {
    namespace: options.namespace,
    service: config.webhook.service,
    secret: config.webhook.secret,
    configuration: config.webhook.configuration,
    validMs: config.webhook.certificateValidMs,
  };
  const served = Promise.withResolvers<void>();
  const show = (pair: Pair): void => {
    if (state.serving !== undefined) state.serving.setSecureContext(tlsOptions(pair));
    else void serveWebhook(config, admission, pair, metrics, state, log).then(served.resolve, served.reject);
  };
  const secret = watchCertificate(cluster, certificate, show, metrics, log);
  cleanup.defer(() => secret.stop());
  cleanup.defer(() => close(state.serving));

  const events = new EventWriter(cluster, metrics, log);
  const lead = (term: AbortSignal): void => {
    metrics.set('tcpcrypt_operator_leader', 1);
    term.addEventListener('abort', () => metrics.set('tcpcrypt_operator_leader', 0));
    if (config.webhook.certificates === 'Operator') {
      void keepCertificate(cluster, certificate, secret, term, metrics, log);
    }
    void leadControllers({ ...home, config, namespaces, suspensions, events, metrics }, term);
  };
  const election = {
    namespace: options.namespace,
    name: config.lease,
    identity: options.identity,
    ...ELECTION_TIMES,
  };
  const elected = takePart(cluster, election, lead, stopped, log);
  void Promise.all([served.promise, namespaces.informer.synced, suspensions.informer.synced]).then(
    () => {
      state.ready = true;
      log.info({ version: options.version }, 'ready');
    },
    () => {},
  );
  // A port that cannot be had ends the process: the other replica goes on, and the Deployment shows it.
  await Promise.race([once(stopped, 'abort'), served.promise.then(() => once(stopped, 'abort'))]);
  state.stopping = true;
  log.info({}, 'stopping');
  await elected;
  await new Promise((resolve) => setTimeout(resolve, DRAIN_MS));
}

interface State {
  serving: TlsServer | undefined;
  ready: boolean;
  stopping: boolean;
}

async function serveWebhook(
  config: Config,
  admission: AdmissionContext,
  pair: Pair,
  metrics: Metrics,
  state: State,
  log: Logger,
): Promise<void> {
  const server = createWebhookServer(admission, pair, {
    failed: (error) => log.error(errorFields(kubernetesError(error)), 'a pod could not be looked at'),
    took: (path, seconds) =>
      metrics.observe('tcpcrypt_operator_admission_duration_seconds', { path }, seconds),
  });
  state.serving = server;
  await listenOnPort(server, { host: '::', port: config.webhook.port });
  log.info({ port: config.webhook.port }, 'the webhook is served');
}

function admissionContext(
  config: Config,
  namespaces: Namespaces,
  suspensions: SuspensionReader,
  metrics: Metrics,
): AdmissionContext {
  return {
    decision: config.decision,
    injection: config.injection,
    namespace: (name) => namespaces.get(name),
    suspended: (pod, namespace) => suspensions.isSuspended(pod, namespace),
    count: (result, reason) => metrics.count('tcpcrypt_operator_injections_total', { result, reason }),
  };
}

interface LeaderContext {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly config: Config;
  readonly namespaces: Namespaces;
  readonly suspensions: SuspensionReader;
  readonly events: EventWriter;
  readonly metrics: Metrics;
  readonly log: Logger;
}

async function leadControllers(context: LeaderContext, term: AbortSignal): Promise<void> {
  const { cluster, namespace, config, namespaces, suspensions, events, metrics, log } = context;
  await Promise.all([namespaces.informer.synced, suspensions.informer.synced]);
  if (term.aborted) return;
  const { excludedNamespaces } = config.decision;
  const writer = new SuspensionWriter(
    {
      cluster,
      namespace,
      name: config.suspensionsConfigMap,
      log,
      reader: suspensions,
      namespaces,
      suspendForMs: config.suspendForMs,
      // Strict means that a pod does not start without; there a refusal stays one.
      concerns: (name) =>
        !config.injection.strict &&
        !excludedNamespaces.includes(name) &&
        namespaces.known(name)?.labels[ENFORCE_LABEL] !== 'strict',
      events,
      metrics,
    },
    term,
  );
  runPodsController(
    {
      cluster,
      settings: config.decision,
      namespaces,
      suspended: (pod, name) => suspensions.isSuspended(pod, name),
      events,
      metrics,
      log,
      uninjected: (name, owner, createdMs) => writer.uninjected(name, owner, createdMs),
    },
    term,
  );
  const owner = await ownerOf(context, term);
  if (owner === undefined) return;
  const policies = {
    cluster,
    namespace,
    namespaces,
    excluded: excludedNamespaces,
    policy: config.policy,
    owner,
  };
  await runPoliciesController({ ...policies, metrics, log }, term);
}

/** Asks until there is an answer; undefined if the term ends before. */
async function ownerOf({ cluster, namespace, config, log }: LeaderContext, term: AbortSignal) {
  const name = config.ownerConfigMap;
  while (!term.aborted) {
    try {
      const { metadata } = await within(
        TIMEOUT_MS,
        cluster.core.readNamespacedConfigMap({ name, namespace }),
      );
      return { name, uid: metadata!.uid! };
    } catch (error) {
      log.warn(errorFields(kubernetesError(error)), 'no policies are rendered yet; tried again');
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
  return undefined;
}

async function close(server: Server | TlsServer | undefined): Promise<void> {
  if (!server?.listening) return;
  server.close();
  server.closeAllConnections();
  await once(server, 'close');
}
