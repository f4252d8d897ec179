/**
 * A pod as the API server sends it: JSON, of which only the parts that injection looks at are typed. `readPod` is the
 * border: what it returns has these shapes, everything else in the object is passed on as it came.
 */

export interface EnvVar {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: unknown;
}

export interface VolumeMount {
  readonly name: string;
  readonly mountPath: string;
  readonly readOnly?: boolean;
}

export type ResourceList = Readonly<Record<string, string>>;

export interface Resources {
  readonly requests?: ResourceList;
  readonly limits?: ResourceList;
}

export interface Container {
  readonly name: string;
  readonly image?: string;
  readonly restartPolicy?: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly resources?: Resources;
  readonly volumeMounts?: readonly VolumeMount[];
}

export interface Volume {
  readonly name: string;
  readonly emptyDir?: { readonly medium?: string; readonly sizeLimit?: string };
  readonly downwardAPI?: unknown;
}

export interface NodeSelectorRequirement {
  readonly key: string;
  readonly operator: string;
  readonly values?: readonly string[];
}

export interface PodSpec {
  readonly containers: readonly Container[];
  readonly initContainers?: readonly Container[];
  readonly volumes?: readonly Volume[];
  readonly hostNetwork?: boolean;
  readonly runtimeClassName?: string;
  readonly os?: { readonly name?: string };
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly affinity?: {
    readonly nodeAffinity?: {
      readonly requiredDuringSchedulingIgnoredDuringExecution?: {
        readonly nodeSelectorTerms?: readonly {
          readonly matchExpressions?: readonly NodeSelectorRequirement[];
        }[];
      };
    };
  };
  /** Since 1.32: resources of the pod as a whole. */
  readonly resources?: Resources;
  readonly terminationGracePeriodSeconds?: number;
}

export interface OwnerReference {
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
}

export interface Pod {
  readonly metadata: {
    readonly name?: string;
    readonly generateName?: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly ownerReferences?: readonly OwnerReference[];
  };
  readonly spec: PodSpec;
}

const MAX_LIST = 1000;

/** The same value with its type, or what is wrong with it. The API server has validated nothing at this point. */
export function readPod(value: unknown): Pod | { readonly problem: string } {
  const problem = podProblem(value);
  if (problem !== undefined) return { problem };
  const pod = value as Pod;
  return pod.metadata ? pod : { ...pod, metadata: {} };
}

function podProblem(value: unknown): string | undefined {
  if (!isObject(value)) return 'the pod is not an object';
  const { spec } = value;
  const metadata = value['metadata'] ?? {};
  if (!isObject(metadata)) return 'metadata is not an object';
  if (!isObject(spec)) return 'spec is not an object';
  return firstProblem([
    [isOptional(metadata['name'], isString), 'metadata.name'],
    [isOptional(metadata['labels'], isStringMap), 'metadata.labels'],
    [isOptional(metadata['annotations'], isStringMap), 'metadata.annotations'],
    [isOptional(metadata['ownerReferences'], isListOf(isOwner)), 'metadata.ownerReferences'],
    [isListOf(isContainer)(spec['containers']), 'spec.containers'],
    [isOptional(spec['initContainers'], isListOf(isContainer)), 'spec.initContainers'],
    [isOptional(spec['volumes'], isListOf(isNamed)), 'spec.volumes'],
    [isOptional(spec['hostNetwork'], isBoolean), 'spec.hostNetwork'],
    [isOptional(spec['runtimeClassName'], isString), 'spec.runtimeClassName'],
    [isOptional(spec['os'], isObject), 'spec.os'],
    [isOptional(spec['nodeSelector'], isStringMap), 'spec.nodeSelector'],
    [isOptional(spec['affinity'], isAffinity), 'spec.affinity'],
    [isOptional(spec['resources'], isResources), 'spec.resources'],
    [
      isOptional(spec['terminationGracePeriodSeconds'], Number.isSafeInteger),
      'spec.terminationGracePeriodSeconds',
    ],
  ]);
}

type Check = (value: unknown) => boolean;

function firstProblem(checks: readonly (readonly [boolean, string])[]): string | undefined {
  const failed = checks.find(([good]) => !good);
  return failed && `${failed[1]} is not what the API defines`;
}

/** null is how Go writes an absent list or map. */
const isOptional = (value: unknown, check: Check): boolean =>
  value === undefined || value === null || check(value);
const isString: Check = (value) => typeof value === 'string';
const isBoolean: Check = (value) => typeof value === 'boolean';
const isListOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.length <= MAX_LIST && value.every(check);
const isStringMap: Check = (value) => isObject(value) && Object.values(value).every(isString);
const isNamed: Check = (value) => isObject(value) && isString(value['name']);
const isMount: Check = (value) => isNamed(value) && isString((value as { mountPath?: unknown }).mountPath);
/** Kubernetes writes quantities as strings, and reads numbers as well. */
const isQuantityMap: Check = (value) =>
  isObject(value) && Object.values(value).every((each) => isString(each) || typeof each === 'number');
const isResources: Check = (value) =>
  isObject(value) &&
  isOptional(value['requests'], isQuantityMap) &&
  isOptional(value['limits'], isQuantityMap);
const isContainer: Check = (value) =>
  isObject(value) &&
  isString(value['name']) &&
  isOptional(value['image'], isString) &&
  isOptional(value['restartPolicy'], isString) &&
  isOptional(value['command'], isListOf(isString)) &&
  isOptional(value['resources'], isResources) &&
  isOptional(value['volumeMounts'], isListOf(isMount));
const isOwner: Check = (value) => isObject(value) && isString(value['uid']) && isString(value['kind']);
const isRequirement: Check = (value) =>
  isObject(value) &&
  isString(value['key']) &&
  isString(value['operator']) &&
  isOptional(value['values'], isListOf(isString));
const isTerm: Check = (value) =>
  isObject(value) && isOptional(value['matchExpressions'], isListOf(isRequirement));
const isAffinity: Check = (value) => {
  if (!isObject(value)) return false;
  const node = value['nodeAffinity'] ?? {};
  if (!isObject(node)) return false;
  const required = node['requiredDuringSchedulingIgnoredDuringExecution'] ?? {};
  return isObject(required) && isOptional(required['nodeSelectorTerms'], isListOf(isTerm));
};

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A label, else the annotation of the same name. */
export function labelOrAnnotation(
  metadata: {
    readonly labels?: Pod['metadata']['labels'];
    readonly annotations?: Pod['metadata']['annotations'];
  },
  name: string,
): string | undefined {
  return metadata.labels?.[name] ?? metadata.annotations?.[name];
}
