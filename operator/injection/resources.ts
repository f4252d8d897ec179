/**
 * What our container asks of the node. Requests always, so that the scheduler knows of it; a limit on memory only,
 * since a limit on CPU would delay packets. A pod of class Guaranteed keeps its class: all its containers, ours too,
 * must have limits that equal their requests.
 */
import { parseQuantity } from '../../policy/quantity.ts';
import type { Container, Pod, ResourceList, Resources } from './pod.ts';

export interface SidecarResources {
  readonly cpu: string;
  readonly memory: string;
  readonly memoryLimit: string;
  /** In a pod of class Guaranteed, request and limit. */
  readonly guaranteed: { readonly cpu: string; readonly memory: string };
}

/** Annotations that set one quantity of our container, and where it goes. */
export const RESOURCE_ANNOTATIONS = {
  'tcpcrypt.io/cpu-request': ['requests', 'cpu'],
  'tcpcrypt.io/cpu-limit': ['limits', 'cpu'],
  'tcpcrypt.io/memory-request': ['requests', 'memory'],
  'tcpcrypt.io/memory-limit': ['limits', 'memory'],
} as const;

/** `kept`: what somebody else (LimitRange, another webhook) has added to our container since; it stays. */
export function sidecarResources(
  pod: Pod,
  settings: SidecarResources,
  kept: Resources = {},
): { resources: Resources; warnings: string[] } {
  const warnings: string[] = [];
  // Resources of the pod as a whole bound its containers': more requests of ours could exceed them.
  const base: Resources =
    pod.spec.resources?.requests || pod.spec.resources?.limits ? {} : byClass(pod, settings);
  const requests: Record<string, string> = { ...base.requests };
  const limits: Record<string, string> = { ...base.limits };
  const lists = { requests, limits };
  for (const [annotation, [list, resource]] of Object.entries(RESOURCE_ANNOTATIONS)) {
    const value = pod.metadata.annotations?.[annotation];
    if (value === undefined) continue;
    if (parseQuantity(value) === undefined)
      warnings.push(`${annotation}: ${JSON.stringify(value)} is not a quantity`);
    else lists[list][resource] = value;
  }
  const merged = { requests: { ...kept.requests, ...requests }, limits: { ...kept.limits, ...limits } };
  raiseLimits(merged.requests, merged.limits);
  return {
    resources: { ...nonEmpty('requests', merged.requests), ...nonEmpty('limits', merged.limits) },
    warnings,
  };
}

function byClass(pod: Pod, { cpu, memory, memoryLimit, guaranteed }: SidecarResources): Resources {
  if (isGuaranteed(pod)) return { requests: guaranteed, limits: guaranteed };
  return { requests: { cpu, memory }, limits: { memory: memoryLimit } };
}

/** A limit below its request would make the pod invalid. */
function raiseLimits(requests: ResourceList, limits: Record<string, string>): void {
  for (const [resource, limit] of Object.entries(limits)) {
    const request = requests[resource];
    const least = parseQuantity(request);
    const most = parseQuantity(limit);
    if (least !== undefined && most !== undefined && most < least) limits[resource] = request!;
  }
}

function nonEmpty<K extends string>(key: K, list: ResourceList): { [P in K]?: ResourceList } {
  return (Object.keys(list).length === 0 ? {} : { [key]: list }) as { [P in K]?: ResourceList };
}

/** As Kubernetes computes it, without our container: each has limits on CPU and memory, equal to its requests. */
export function isGuaranteed({ spec }: Pod): boolean {
  const containers = [...(spec.initContainers ?? []), ...spec.containers];
  return containers.every(({ resources }: Container) =>
    ['cpu', 'memory'].every((name) => {
      const limit = parseQuantity(resources?.limits?.[name]);
      // Only what is absent takes the limit's value.
      const request = resources?.requests?.[name];
      return limit !== undefined && limit > 0 && (request === undefined || parseQuantity(request) === limit);
    }),
  );
}
