/** What the operator keeps of each pod in the cluster: what injection looks at, about 1 kB. */
import { INJECT_LABEL, STATUS_ANNOTATION } from '../../kubernetes/names.ts';
import { MESH_ANNOTATIONS, MESH_LABELS } from '../injection/other-mesh.ts';
import type { Container, Pod, Volume } from '../injection/pod.ts';

export interface PodEssentials extends Pod {
  readonly metadata: Pod['metadata'] & {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly resourceVersion: string;
  };
  readonly createdMs: number;
  /** Succeeded or Failed: it has no traffic. */
  readonly ended: boolean;
}

const LABELS = [INJECT_LABEL, ...MESH_LABELS];
const ANNOTATIONS = [INJECT_LABEL, STATUS_ANNOTATION, 'kubernetes.io/config.mirror', ...MESH_ANNOTATIONS];

/** Of a pod as the API server stores it, as JSON or as the client's object (whose times are dates). */
export function podEssentials(object: unknown): PodEssentials {
  const { metadata, spec, status } = object as Pod & {
    metadata: PodEssentials['metadata'] & { creationTimestamp: string | Date };
    status?: { phase?: string };
  };
  const { containers, initContainers, volumes, affinity } = spec;
  const { hostNetwork, runtimeClassName, os, nodeSelector } = spec;
  return {
    metadata: {
      name: metadata.name,
      namespace: metadata.namespace,
      uid: metadata.uid,
      resourceVersion: metadata.resourceVersion,
      labels: pick(metadata.labels, LABELS),
      annotations: pick(metadata.annotations, ANNOTATIONS),
      ownerReferences: (metadata.ownerReferences ?? []).filter(({ controller }) => controller === true),
    },
    spec: {
      containers: containers.map(nameOnly),
      ...(initContainers && { initContainers: initContainers.map(nameOnly) }),
      ...(volumes && { volumes: volumes.map(({ name }: Volume) => ({ name })) }),
      ...(affinity?.nodeAffinity && { affinity: { nodeAffinity: affinity.nodeAffinity } }),
      ...(hostNetwork !== undefined && { hostNetwork }),
      ...(runtimeClassName !== undefined && { runtimeClassName }),
      ...(os && { os }),
      ...(nodeSelector && { nodeSelector }),
    },
    createdMs: new Date(metadata.creationTimestamp).getTime(),
    ended: status?.phase === 'Succeeded' || status?.phase === 'Failed',
  };
}

function nameOnly({ name, restartPolicy }: Container): Container {
  return restartPolicy === undefined ? { name } : { name, restartPolicy };
}

function pick(
  from: Readonly<Record<string, string>> | undefined,
  names: readonly string[],
): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(from ?? {}).filter(([name]) => names.includes(name)));
}
