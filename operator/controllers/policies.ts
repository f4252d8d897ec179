/**
 * Renders each namespace's policies into a ConfigMap of the release's namespace, from which the node agents hand them to
 * the sidecars. Here stands what decides a namespace's policies (`policiesFor`); today that is the default policy of the
 * chart's values.
 */
import type { KubernetesObject } from '@kubernetes/client-node';
import { startInformer } from '../../kubernetes/informer.ts';
import { RENDERED_LABEL } from '../../kubernetes/names.ts';
import { type Rendered, writeRendered } from '../../kubernetes/rendered.ts';
import { errorFields, type Logger } from '../../observability/log.ts';
import { type Cluster, kubernetesError, statusOf, within } from '../cluster/client.ts';
import type { Namespaces } from '../cluster/namespaces.ts';
import type { Metrics } from '../metrics.ts';

export interface PoliciesContext {
  readonly cluster: Cluster;
  /** The release's. */
  readonly namespace: string;
  readonly namespaces: Namespaces;
  readonly excluded: readonly string[];
  readonly policy: unknown;
  /** With this ConfigMap goes what is rendered. */
  readonly owner: { readonly name: string; readonly uid: string };
  readonly metrics: Metrics;
  readonly log: Logger;
}

const TIMEOUT_MS = 10_000;
const RETRY_MS = 2000;

type ConfigMap = KubernetesObject & { data?: Record<string, string> };

export function policiesFor(namespace: string, policy: unknown): Rendered {
  return { namespace, policies: [{ podSelector: {}, policy }] };
}

export async function runPoliciesController(context: PoliciesContext, stop: AbortSignal): Promise<void> {
  const { cluster, namespace: home, namespaces, excluded, metrics, log } = context;
  const rendered = startInformer<ConfigMap>(
    cluster.config,
    {
      what: 'rendered policies',
      path: `/api/v1/namespaces/${home}/configmaps`,
      list: (page) => cluster.core.listNamespacedConfigMap({ ...page, namespace: home }),
      reduce: (object) => object as ConfigMap,
      labelSelector: RENDERED_LABEL,
    },
    log,
  );
  stop.addEventListener('abort', () => rendered.stop());
  await Promise.all([rendered.synced, namespaces.informer.synced]);

  /** Names of namespaces to look at; a set, so that many changes of one are one look. */
  const queue = new Set<string>();
  let working = false;
  const look = (name: string | undefined): void => {
    if (stop.aborted || name === undefined) return;
    queue.add(name);
    if (!working) void work();
  };
  const work = async (): Promise<void> => {
    working = true;
    for (const name of queue) {
      if (stop.aborted) break;
      queue.delete(name);
      try {
        const result = await reconcile(name);
        metrics.count('tcpcrypt_operator_reconciles_total', { controller: 'policies', result });
      } catch (error) {
        metrics.count('tcpcrypt_operator_reconciles_total', { controller: 'policies', result: 'error' });
        log.warn(
          { ...errorFields(kubernetesError(error)), namespace: name },
          'a policy could not be rendered',
        );
        setTimeout(look, RETRY_MS, name).unref();
      }
    }
    working = false;
  };
  const reconcile = async (name: string): Promise<'changed' | 'unchanged'> => {
    const wanted = writeRendered(policiesFor(name, context.policy));
    const found = rendered.get(wanted.name, home);
    if (namespaces.known(name) === undefined || excluded.includes(name)) {
      if (found === undefined) return 'unchanged';
      await within(TIMEOUT_MS, remove(wanted.name));
      return 'changed';
    }
    if (sameData(found?.data, wanted.data)) return 'unchanged';
    const { uid } = context.owner;
    const metadata = {
      name: wanted.name,
      namespace: home,
      labels: { ...wanted.labels, 'app.kubernetes.io/managed-by': 'tcpcrypt-operator' },
      ownerReferences: [{ apiVersion: 'v1', kind: 'ConfigMap', name: context.owner.name, uid }],
    };
    await within(
      TIMEOUT_MS,
      cluster.apply({ apiVersion: 'v1', kind: 'ConfigMap', metadata, data: wanted.data }),
    );
    return 'changed';
  };
  const remove = async (name: string): Promise<void> => {
    try {
      await cluster.core.deleteNamespacedConfigMap({ name, namespace: home });
    } catch (error) {
      if (statusOf(error) !== 404) throw error;
    }
  };

  const depth = () => metrics.set('tcpcrypt_operator_queue_depth', queue.size, { queue: 'policies' });
  metrics.beforeScrape(depth, stop);
  // A namespace that came or went, and a rendered object that somebody changed or removed.
  for (const event of ['change', 'delete'] as const) {
    namespaces.informer.on(event, ({ metadata }) => look(metadata?.name));
    rendered.on(event, ({ metadata }) => look(metadata?.labels?.[RENDERED_LABEL]));
  }
  for (const { metadata } of namespaces.informer.list()) look(metadata?.name);
  for (const { metadata } of rendered.list()) look(metadata?.labels?.[RENDERED_LABEL]);
}

function sameData(a: Record<string, string> | undefined, b: Record<string, string>): boolean {
  const names = Object.keys(b);
  return (
    a !== undefined && Object.keys(a).length === names.length && names.every((name) => a[name] === b[name])
  );
}
