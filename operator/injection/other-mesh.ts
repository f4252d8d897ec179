/**
 * Whether another service mesh proxies a pod. Its traffic has mutual TLS then, and both rewriting it would need rules
 * that agree; so such a pod is left alone. Seen in what the mesh's injector has put into the pod, or, for meshes that
 * put nothing there, in the label that enrols it.
 */
import type { Namespace } from './decision.ts';
import type { Pod } from './pod.ts';

/** Names that the injectors give their containers. */
const CONTAINERS = new Set([
  'istio-proxy',
  'istio-init',
  'istio-validation',
  'linkerd-proxy',
  'linkerd-init',
  'linkerd-network-validator',
  'consul-dataplane',
  'consul-connect-inject-init',
  'kuma-sidecar',
  'kuma-init',
  'kuma-validation',
]);

/** What they note of their work. */
const ANNOTATIONS: readonly (readonly [string, RegExp])[] = [
  ['sidecar.istio.io/status', /./],
  ['linkerd.io/proxy-version', /./],
  ['consul.hashicorp.com/connect-inject-status', /^injected$/],
  ['kuma.io/sidecar-injected', /^true$/],
];

/** Istio's ambient mode redirects inside the pod's network namespace without a container of its own. */
const AMBIENT_LABEL = 'istio.io/dataplane-mode';

/** What has to be kept of a pod for `isProxied`. */
export const MESH_LABELS: readonly string[] = [AMBIENT_LABEL];
export const MESH_ANNOTATIONS: readonly string[] = ANNOTATIONS.map(([name]) => name);

export function isProxied({ metadata, spec }: Pod, namespace: Namespace): boolean {
  const containers = [...(spec.initContainers ?? []), ...spec.containers];
  if (containers.some(({ name }) => CONTAINERS.has(name))) return true;
  if (ANNOTATIONS.some(([name, value]) => value.test(metadata.annotations?.[name] ?? ''))) return true;
  return (metadata.labels?.[AMBIENT_LABEL] ?? namespace.labels[AMBIENT_LABEL]) === 'ambient';
}
