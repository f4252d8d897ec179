/**
 * What the agent sees of the cluster: its node's pods, the rendered policies, its own DaemonSet. Which call needs which
 * right stands in docs/node-agent.md. Without an API server it goes on with what it saw last.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  AppsV1Api,
  CoreV1Api,
  type KubernetesListObject,
  type KubernetesObject,
} from '@kubernetes/client-node';
import { kubernetesError, loadConfig, statusOf, within } from '../../kubernetes/client.ts';
import { type Informer, type Kept, startInformer } from '../../kubernetes/informer.ts';
import { RENDERED_LABEL } from '../../kubernetes/names.ts';
import { type Rendered, readRendered } from '../../kubernetes/rendered.ts';
import { selects } from '../../kubernetes/selector.ts';
import { errorFields, type Logger } from '../../observability/log.ts';
import { type ApiPod, type Pod, readPod } from './pod.ts';

export interface ClusterOptions {
  readonly kubeconfig: string | undefined;
  readonly nodeName: string;
  /** The release's namespace. */
  readonly namespace: string;
  /** Name of the agent's own DaemonSet; empty where there is none. */
  readonly daemonSet: string;
  readonly log: Logger;
}

type KeptPod = Kept & { readonly pod: Pod };
type KeptPolicies = Kept & { readonly rendered: Rendered | undefined };
type List = KubernetesListObject<KubernetesObject>;

/** The runtime waits for the plugin, and the plugin waits 2 s. */
const FIND_TIMEOUT_MS = 800;
const ASK_TIMEOUT_MS = 2000;
/** An API server may say no, or nothing, for a moment: while it starts, or is changed for another. */
const DECIDE_WITHIN_MS = 5000;
const ASK_AGAIN_MS = 500;
/** HTTP: the service account is gone, or its roles are. */
const RIGHTS_GONE = [401, 403];

export class Cluster {
  readonly core: CoreV1Api;
  readonly #apps: AppsV1Api;
  readonly #options: ClusterOptions;
  readonly #pods: Informer<KeptPod>;
  readonly #policies: Informer<KeptPolicies>;
  readonly #daemonSets: Informer<Kept> | undefined;
  #daemonSetDeleted = false;
  /** It had the rights that its release gives it. */
  #mayLook = false;

  /** Throws ERR_TCPCRYPT_KUBERNETES where there is no way to an API server. */
  constructor(options: ClusterOptions) {
    const { kubeconfig, nodeName, namespace, daemonSet, log } = options;
    const config = loadConfig(kubeconfig);
    this.#options = options;
    this.core = config.makeApiClient(CoreV1Api);
    this.#apps = config.makeApiClient(AppsV1Api);
    this.#pods = startInformer<KeptPod>(
      config,
      {
        what: 'pods',
        path: '/api/v1/pods',
        list: (page) => this.core.listPodForAllNamespaces(page) as Promise<List>,
        reduce: (object) => ({ ...essentials(object), pod: readPod(object as ApiPod) }),
        fieldSelector: `spec.nodeName=${nodeName}`,
      },
      log,
    );
    this.#policies = startInformer<KeptPolicies>(
      config,
      {
        what: 'policies',
        path: `/api/v1/namespaces/${namespace}/configmaps`,
        list: (page) => this.core.listNamespacedConfigMap({ ...page, namespace }) as Promise<List>,
        reduce: (object) => ({ ...essentials(object), rendered: renderedOf(object) }),
        labelSelector: RENDERED_LABEL,
      },
      log,
    );
    if (daemonSet === '') return;
    this.#daemonSets = startInformer<Kept>(
      config,
      {
        what: 'the DaemonSet',
        path: `/apis/apps/v1/namespaces/${namespace}/daemonsets`,
        list: (page) => this.#apps.listNamespacedDaemonSet({ ...page, namespace }) as Promise<List>,
        reduce: essentials,
        fieldSelector: `metadata.name=${daemonSet}`,
      },
      log,
    );
    void this.#daemonSets.synced.then(() => {
      this.#mayLook = true;
    });
    this.#daemonSets.on('delete', () => {
      this.#daemonSetDeleted = true;
    });
    this.#daemonSets.on('change', () => {
      this.#daemonSetDeleted = false;
    });
  }

  /** Settles when pods and policies have been seen once. */
  get synced(): Promise<unknown> {
    return Promise.all([this.#pods.synced, this.#policies.synced]);
  }

  /** Of this node, those that have not ended. */
  pods(): readonly Pod[] {
    return this.#pods.list().map(({ pod }) => pod);
  }

  onPod(handle: (pod: Pod, what: 'change' | 'delete') => void): void {
    for (const what of ['change', 'delete'] as const) this.#pods.on(what, ({ pod }) => handle(pod, what));
  }

  /** A namespace's policies are others now. */
  onPolicies(handle: (namespace: string) => void): void {
    for (const what of ['change', 'delete'] as const) {
      this.#policies.on(what, ({ rendered }) => rendered && handle(rendered.namespace));
    }
  }

  /** From memory; a pod that has only just come is asked for. Undefined if nobody knows it in time. */
  async findPod({
    namespace,
    name,
    uid,
  }: {
    namespace: string;
    name: string;
    uid: string;
  }): Promise<Pod | undefined> {
    const known = this.#pods.get(name, namespace)?.pod;
    // One of the same name may have been there before.
    if (known !== undefined && (uid === '' || known.uid === uid)) return known;
    try {
      const fieldSelector = `metadata.name=${name},spec.nodeName=${this.#options.nodeName}`;
      const list = this.core.listNamespacedPod({ namespace, fieldSelector, limit: 1 });
      const [found] = (await within(FIND_TIMEOUT_MS, list)).items;
      const pod = found && readPod(found as ApiPod);
      return pod !== undefined && (uid === '' || pod.uid === uid) ? pod : undefined;
    } catch (error) {
      this.#options.log.warn(
        { ...errorFields(kubernetesError(error)), namespace, name },
        'a pod cannot be asked for',
      );
      return undefined;
    }
  }

  /** The policy document for a pod, as JSON; undefined where nobody has rendered one. */
  policyFor({ namespace, labels }: Pod): string | undefined {
    const lists = this.#policies.list().map(({ rendered }) => rendered);
    const rendered = lists.find((each) => each?.namespace === namespace);
    const found = rendered?.policies.find(({ podSelector }) => selects(podSelector, labels));
    return found && JSON.stringify(found.policy);
  }

  /**
   * Whether the release is being uninstalled: the agent's DaemonSet is gone or going, or its namespace is, or the right to
   * look at them, which the agent had, has been taken away for good. An upgrade, a restart, an API server that does not answer are none: in
   * doubt everything stays.
   */
  async uninstalled(): Promise<boolean> {
    const { daemonSet: name, namespace, log } = this.#options;
    if (name === '') return false;
    const until = performance.now() + DECIDE_WITHIN_MS;
    for (;;) {
      if (this.#daemonSetDeleted) return true;
      try {
        const objects = [
          this.#apps.readNamespacedDaemonSet({ name, namespace }),
          this.core.readNamespace({ name: namespace }),
        ];
        const found = await within(ASK_TIMEOUT_MS, Promise.all(objects));
        return found.some(({ metadata }) => metadata?.deletionTimestamp !== undefined);
      } catch (error) {
        const status = statusOf(error) ?? 0;
        if (status === 404) return true;
        if (performance.now() > until) {
          const refused = this.#mayLook && RIGHTS_GONE.includes(status);
          const what = refused
            ? 'the rights of the agent are gone: it is an uninstallation'
            : 'whether this is an uninstallation cannot be told: everything stays';
          log.warn(errorFields(kubernetesError(error)), what);
          return refused;
        }
        await sleep(ASK_AGAIN_MS);
      }
    }
  }

  stop(): void {
    for (const informer of [this.#pods, this.#policies, this.#daemonSets]) informer?.stop();
  }
}

function essentials(object: unknown): Kept {
  const { name = '', namespace = '', resourceVersion = '' } = (object as Kept).metadata ?? {};
  return { metadata: { name, namespace, resourceVersion } };
}

function renderedOf(object: unknown): Rendered | undefined {
  const { metadata, data } = object as {
    metadata?: { labels?: Record<string, string> };
    data?: Record<string, string>;
  };
  return readRendered(metadata?.labels ?? {}, data ?? {});
}
