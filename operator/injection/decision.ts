/**
 * Whether a pod gets the sidecar, and if not, why. Pure: a pod, its namespace and the settings go in. The webhook asks
 * for pods that are being made, the pods controller for those that are there, so that both always agree.
 */
import { INJECT_LABEL } from '../../kubernetes/names.ts';
import { hasStrangersNames } from './mutation.ts';
import { isProxied } from './other-mesh.ts';
import { labelOrAnnotation, type NodeSelectorRequirement, type Pod } from './pod.ts';

/** Somebody said so: nothing to report. */
export const EXCLUDED_REASONS = ['namespace', 'disabled', 'default', 'mirror_pod'] as const;
/** It would get the sidecar but cannot: an event and a metric say so. */
export const LEFT_ALONE_REASONS = [
  'host_network',
  'other_mesh',
  'pod_security',
  'runtime_class',
  'windows',
  'architecture',
  'name_taken',
  'suspended',
] as const;

export type ExcludedReason = (typeof EXCLUDED_REASONS)[number];
export type LeftAloneReason = (typeof LEFT_ALONE_REASONS)[number];

export type Decision =
  | { readonly kind: 'inject' }
  | { readonly kind: 'excluded'; readonly reason: ExcludedReason }
  | { readonly kind: 'left_alone'; readonly reason: LeftAloneReason };

export interface Namespace {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface DecisionSettings {
  readonly default: 'enabled' | 'disabled';
  readonly excludedNamespaces: readonly string[];
  /** Names of RuntimeClasses whose pods have a network stack of their own; `*` at the end stands for anything. */
  readonly runtimeClasses: readonly string[];
  /** As in `kubernetes.io/arch`, that the image is made for. */
  readonly architectures: readonly string[];
}

/** `suspended`: injection has stopped by itself for this pod (`suspension.ts`). */
export function decide(
  pod: Pod,
  namespace: Namespace,
  settings: DecisionSettings,
  suspended: (pod: Pod) => boolean,
): Decision {
  const excluded = excludedBecause(pod, namespace, settings);
  if (excluded !== undefined) return { kind: 'excluded', reason: excluded };
  const leftAlone = leftAloneBecause(pod, namespace, settings);
  if (leftAlone !== undefined) return { kind: 'left_alone', reason: leftAlone };
  return suspended(pod) ? { kind: 'left_alone', reason: 'suspended' } : { kind: 'inject' };
}

function excludedBecause(
  { metadata }: Pod,
  namespace: Namespace,
  settings: DecisionSettings,
): ExcludedReason | undefined {
  if (settings.excludedNamespaces.includes(namespace.name)) return 'namespace';
  // The kubelet's image of a static pod: it runs already, and must stay as the kubelet wrote it.
  if (metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined) return 'mirror_pod';
  const asked = wish(metadata) ?? wish(namespace);
  if (asked === 'disabled') return 'disabled';
  return (asked ?? settings.default) === 'enabled' ? undefined : 'default';
}

/** Another value than the two says nothing: a typing error must not decide whether traffic is encrypted. */
function wish(metadata: Parameters<typeof labelOrAnnotation>[0]): 'enabled' | 'disabled' | undefined {
  const value = labelOrAnnotation(metadata, INJECT_LABEL);
  return value === 'enabled' || value === 'disabled' ? value : undefined;
}

function leftAloneBecause(
  pod: Pod,
  namespace: Namespace,
  settings: DecisionSettings,
): LeftAloneReason | undefined {
  const { spec } = pod;
  if (spec.hostNetwork === true) return 'host_network';
  if (spec.os?.name === 'windows' || spec.nodeSelector?.['kubernetes.io/os'] === 'windows') return 'windows';
  if (isProxied(pod, namespace)) return 'other_mesh';
  if (forbidsNetAdmin(namespace)) return 'pod_security';
  if (matchesAny(spec.runtimeClassName, settings.runtimeClasses)) return 'runtime_class';
  if (!canRunOn(pod, settings.architectures)) return 'architecture';
  return hasStrangersNames(pod) ? 'name_taken' : undefined;
}

/** Pod Security Standards: `baseline` and `restricted` allow neither NET_ADMIN nor, for `restricted`, UID 0. */
function forbidsNetAdmin({ labels }: Namespace): boolean {
  const level = labels['pod-security.kubernetes.io/enforce'];
  return level === 'baseline' || level === 'restricted';
}

function matchesAny(name: string | undefined, patterns: readonly string[]): boolean {
  return (
    name !== undefined &&
    patterns.some((pattern) =>
      pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern,
    )
  );
}

const ARCHITECTURE_LABEL = 'kubernetes.io/arch';

/** False only where the pod's own constraints rule out every architecture that there is an image for. */
function canRunOn({ spec }: Pod, architectures: readonly string[]): boolean {
  const selected = spec.nodeSelector?.[ARCHITECTURE_LABEL];
  if (selected !== undefined && !architectures.includes(selected)) return false;
  const terms =
    spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
  return (
    terms.length === 0 ||
    terms.some((term) =>
      architectures.some((architecture) => (term.matchExpressions ?? []).every(allows(architecture))),
    )
  );
}

const allows =
  (architecture: string) =>
  ({ key, operator, values = [] }: NodeSelectorRequirement): boolean => {
    if (key !== ARCHITECTURE_LABEL) return true;
    if (operator === 'In') return values.includes(architecture);
    return operator === 'NotIn' ? !values.includes(architecture) : true;
  };
