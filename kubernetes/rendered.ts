/**
 * What the operator renders of a namespace's policies and the node agent reads: a ConfigMap in the release's namespace,
 * one a namespace. The first entry whose selector matches a pod's labels is the pod's policy; the last one matches all.
 */
import { RENDERED_KEY, RENDERED_LABEL } from './names.ts';

/** metav1.LabelSelector as it stands in the API. */
export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}

export interface RenderedPolicy {
  readonly podSelector: LabelSelector;
  /** A policy document (`policy/document.ts`) as plain values: what the sidecar's control socket takes. */
  readonly policy: unknown;
}

export interface Rendered {
  readonly namespace: string;
  readonly policies: readonly RenderedPolicy[];
}

const MAX_BYTES = 1 << 20;
const MAX_POLICIES = 1000;

/** A namespace's name is a DNS label of at most 63 characters, so this is always a valid name. */
export function renderedName(namespace: string): string {
  return `tcpcrypt-policy-${namespace}`;
}

export function writeRendered({ namespace, policies }: Rendered) {
  return {
    name: renderedName(namespace),
    labels: { [RENDERED_LABEL]: namespace },
    data: { [RENDERED_KEY]: JSON.stringify(policies) },
  };
}

/** Of a ConfigMap's labels and data; undefined where it is not what `writeRendered` makes. */
export function readRendered(
  labels: Readonly<Record<string, string>>,
  data: Readonly<Record<string, string>>,
): Rendered | undefined {
  const namespace = labels[RENDERED_LABEL];
  const text = data[RENDERED_KEY];
  if (namespace === undefined || text === undefined || text.length > MAX_BYTES) return undefined;
  try {
    const policies: unknown = JSON.parse(text);
    if (!Array.isArray(policies) || policies.length > MAX_POLICIES || !policies.every(isEntry))
      return undefined;
    return { namespace, policies };
  } catch {
    return undefined;
  }
}

function isEntry(value: unknown): value is RenderedPolicy {
  return isObject(value) && isObject(value['podSelector']) && isObject(value['policy']);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
