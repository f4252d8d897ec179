/** Namespaces with labels and annotations, in memory; one that is too new to be there is asked for. */
import type { KubernetesObject } from '@kubernetes/client-node';
import { type Informer, startInformer } from '../../kubernetes/informer.ts';
import type { Logger } from '../../observability/log.ts';
import type { Namespace } from '../injection/decision.ts';
import { type Cluster, within } from './client.ts';

/** The API server waits 2 s for the webhook in all. */
const ASK_WITHIN_MS = 1000;

export interface Namespaces {
  readonly informer: Informer<KubernetesObject>;
  /** Rejects if the API server does not know it, or does not answer. */
  get(name: string): Promise<Namespace>;
  /** Only from memory. */
  known(name: string): Namespace | undefined;
}

export function watchNamespaces(cluster: Cluster, log: Logger): Namespaces {
  const informer = startInformer<KubernetesObject>(
    cluster.config,
    {
      what: 'namespaces',
      path: '/api/v1/namespaces',
      list: (page) => cluster.core.listNamespace(page),
      reduce: essentials,
    },
    log,
  );
  const known = (name: string): Namespace | undefined => {
    const found = informer.get(name);
    return found && toNamespace(found);
  };
  return {
    informer,
    known,
    get: async (name) =>
      known(name) ??
      toNamespace(essentials(await within(ASK_WITHIN_MS, cluster.core.readNamespace({ name })))),
  };
}

function essentials(object: unknown): KubernetesObject {
  const { metadata = {} } = object as KubernetesObject;
  const { name, resourceVersion, labels, annotations } = metadata;
  return {
    metadata: { name, resourceVersion, labels, annotations } as NonNullable<KubernetesObject['metadata']>,
  };
}

function toNamespace({ metadata }: KubernetesObject): Namespace {
  return {
    name: metadata?.name ?? '',
    labels: metadata?.labels ?? {},
    annotations: metadata?.annotations ?? {},
  };
}
