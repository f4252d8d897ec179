/**
 * Keeps the record of `injection/suspension.ts`: every replica reads it from a ConfigMap of the release's namespace, the
 * leader writes it by what the cluster's events of refused pods say.
 */
import type { KubernetesObject } from '@kubernetes/client-node';
import { type Informer, startInformer } from '../../kubernetes/informer.ts';
import { errorFields, type Logger } from '../../observability/log.ts';
import { type Cluster, kubernetesError, within } from '../cluster/client.ts';
import type { EventWriter } from '../cluster/events.ts';
import type { Namespaces } from '../cluster/namespaces.ts';
import type { Pod } from '../injection/pod.ts';
import {
  afterCreation,
  afterRefusal,
  isRefusal,
  isSuspended,
  readSuspensions,
  type Suspensions,
  withoutEnded,
  writeSuspensions,
} from '../injection/suspension.ts';
import type { Metrics } from '../metrics.ts';

/** Why a controller could not make a pod; the same word for ReplicaSets, StatefulSets, DaemonSets and Jobs. */
const REASON = 'FailedCreate';
const TIMEOUT_MS = 10_000;
const EXPIRE_EVERY_MS = 30_000;
const RETRY_MS = 2000;
/** Refusals from just before this replica led may not have been seen by the one before. */
const LOOK_BACK_MS = 30_000;

interface Source {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly name: string;
  readonly log: Logger;
}

/** What every replica knows. */
export class SuspensionReader {
  readonly informer: Informer<KubernetesObject & { data?: Record<string, string> }>;
  readonly #namespace: string;
  readonly #name: string;
  #entries: Suspensions = {};

  constructor({ cluster, namespace, name, log }: Source) {
    this.#namespace = namespace;
    this.#name = name;
    this.informer = startInformer(
      cluster.config,
      {
        what: 'suspensions',
        path: `/api/v1/namespaces/${namespace}/configmaps`,
        list: (page) => cluster.core.listNamespacedConfigMap({ ...page, namespace }),
        reduce: (object) => object as KubernetesObject,
        fieldSelector: `metadata.name=${name}`,
      },
      log,
    );
    const update = () => {
      this.#entries = readSuspensions(this.informer.get(this.#name, this.#namespace)?.data);
    };
    this.informer.on('change', update);
    this.informer.on('delete', update);
  }

  get entries(): Suspensions {
    return this.#entries;
  }

  isSuspended(pod: Pod, namespace: string): boolean {
    return isSuspended(this.#entries, pod, namespace, Date.now());
  }
}

interface WriterContext extends Source {
  readonly reader: SuspensionReader;
  readonly namespaces: Namespaces;
  readonly suspendForMs: number;
  /** Whether the webhook puts a sidecar into pods of the namespace at all, and may leave it out. */
  readonly concerns: (namespace: string) => boolean;
  readonly events: EventWriter;
  readonly metrics: Metrics;
}

interface FailedCreate extends KubernetesObject {
  readonly owner: {
    readonly apiVersion: string;
    readonly kind: string;
    readonly name: string;
    readonly uid: string;
  };
  readonly message: string;
  readonly atMs: number;
}

/** The leader's part; ends with `stop`. */
export class SuspensionWriter {
  readonly #context: WriterContext;
  readonly #owners = new Map<string, FailedCreate['owner']>();
  #entries: Suspensions;
  #dirty = false;
  #writing = false;
  readonly #stop: AbortSignal;

  constructor(context: WriterContext, stop: AbortSignal) {
    this.#context = context;
    this.#stop = stop;
    this.#entries = context.reader.entries;
    const { cluster, namespaces, log } = context;
    const startedMs = Date.now();
    const informer = startInformer<FailedCreate>(
      cluster.config,
      {
        what: 'events',
        path: '/api/v1/events',
        list: (page) => cluster.core.listEventForAllNamespaces(page),
        reduce: failedCreate,
        fieldSelector: `reason=${REASON}`,
      },
      log,
    );
    informer.on('change', (event) => {
      if (event.atMs >= startedMs - LOOK_BACK_MS) this.#refused(event);
    });
    const end = () => {
      const exists = (name: string) => namespaces.known(name) !== undefined;
      this.#become(withoutEnded(this.#entries, Date.now(), exists));
    };
    const timer = setInterval(end, EXPIRE_EVERY_MS);
    // One of the same name may come at once.
    namespaces.informer.on('delete', () => {
      if (!stop.aborted) end();
    });
    stop.addEventListener('abort', () => {
      informer.stop();
      clearInterval(timer);
    });
  }

  /** A pod without our container was stored. */
  uninjected(namespace: string, owner: string, createdMs: number): void {
    const { suspendForMs, metrics, log, events } = this.#context;
    const next = afterCreation(this.#entries, { namespace, owner, createdMs }, Date.now(), suspendForMs);
    if (next === this.#entries) return;
    this.#become(next);
    metrics.count('tcpcrypt_operator_suspensions_total');
    const { message, until } = next[namespace]!;
    log.warn(
      { namespace, until, refusal: message },
      'injection stops in a namespace: the API server refuses our container',
    );
    const about = this.#owners.get(owner);
    if (about === undefined) return;
    events.write({
      name: `tcpcrypt-${owner}-suspended-${Date.now().toString(36)}`,
      about: { ...about, namespace },
      type: 'Warning',
      reason: 'TcpcryptInjectionSuspended',
      message: `The API server refused its pods because of the tcpcrypt sidecar; pods of namespace ${namespace} are made without until ${until}. It said: ${message}`,
    });
  }

  #refused({ owner, message, atMs, metadata }: FailedCreate): void {
    const namespace = metadata?.namespace ?? '';
    if (!isRefusal(message) || !this.#context.concerns(namespace)) return;
    const refusal = { namespace, owner: owner.uid, message, atMs };
    const next = afterRefusal(this.#entries, refusal, Date.now(), this.#context.suspendForMs);
    if (next === this.#entries) return;
    const { phase } = next[namespace]!;
    this.#context.log.info(
      { namespace, kind: owner.kind, name: owner.name, phase },
      'the API server refuses pods',
    );
    this.#owners.set(owner.uid, owner);
    this.#become(next);
  }

  #become(entries: Suspensions): void {
    if (entries === this.#entries) return;
    this.#entries = entries;
    this.#dirty = true;
    if (!this.#writing) void this.#write();
  }

  /** One writer at a time; what changed meanwhile is written after. */
  async #write(): Promise<void> {
    const { cluster, namespace, name, log, metrics } = this.#context;
    this.#writing = true;
    // Who leads no more writes no more: another does.
    while (this.#dirty && !this.#stop.aborted) {
      this.#dirty = false;
      const data = writeSuspensions(this.#entries);
      try {
        const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace }, data };
        await within(TIMEOUT_MS, cluster.apply(object));
        metrics.count('tcpcrypt_operator_reconciles_total', { controller: 'suspensions', result: 'changed' });
      } catch (error) {
        metrics.count('tcpcrypt_operator_reconciles_total', { controller: 'suspensions', result: 'error' });
        log.warn(errorFields(kubernetesError(error)), 'the record of suspensions could not be written');
        this.#dirty = true;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
    this.#writing = false;
  }
}

function failedCreate(object: unknown): FailedCreate {
  const { metadata, involvedObject, message, ...times } = object as {
    metadata: NonNullable<KubernetesObject['metadata']>;
    involvedObject: Partial<FailedCreate['owner']>;
    message?: string;
    series?: { lastObservedTime?: string };
    lastTimestamp?: string;
    eventTime?: string;
  };
  const { apiVersion = '', kind = '', name = '', uid = '' } = involvedObject;
  const at =
    times.series?.lastObservedTime ?? times.lastTimestamp ?? times.eventTime ?? metadata.creationTimestamp;
  return {
    metadata: {
      name: metadata.name!,
      namespace: metadata.namespace!,
      resourceVersion: metadata.resourceVersion!,
    },
    owner: { apiVersion, kind, name, uid },
    message: message ?? '',
    atMs: new Date(at ?? 0).getTime(),
  };
}
