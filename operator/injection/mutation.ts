/**
 * A pod with the sidecar in it, and a pod without. Pure. Injecting begins by taking out what an earlier call put in, so
 * `inject(inject(pod))` is `inject(pod)`, whatever other injectors did in between; what they added to our container's
 * resources stays.
 */
import { posix } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import {
  API_ANNOTATION,
  API_DIR,
  API_VOLUME,
  CONTAINER,
  NO_TOKEN_VOLUME,
  POD_VOLUME,
  STATE_VOLUME,
  STATUS_ANNOTATION,
  STATUS_INJECTED,
} from '../../kubernetes/names.ts';
import {
  apiMount,
  COMMAND_LINE,
  type ContainerSettings,
  sidecarContainer,
  sidecarVolumes,
} from './container.ts';
import { type Container, labelOrAnnotation, type Pod, type PodSpec, type VolumeMount } from './pod.ts';
import { type SidecarResources, sidecarResources } from './resources.ts';

export interface InjectionSettings extends ContainerSettings {
  readonly resources: SidecarResources;
}

/** /var/run is a link to /run in most images. */
const ABOVE_API_DIR: readonly string[] = ['/run', '/var/run'];
const OUR_VOLUMES: readonly string[] = [STATE_VOLUME, POD_VOLUME, NO_TOKEN_VOLUME, API_VOLUME];

/** Whether the webhook has been here: only then do the names in the pod stand for things of ours. */
export function isInjected(pod: Pod): boolean {
  return (
    pod.metadata.annotations?.[STATUS_ANNOTATION] === STATUS_INJECTED &&
    sidecarOf(pod)?.restartPolicy === 'Always'
  );
}

/** A container, volume or mount that has a name of ours and is somebody else's. */
export function hasStrangersNames(pod: Pod): boolean {
  const { spec } = withoutSidecar(pod);
  const containers = [...(spec.initContainers ?? []), ...spec.containers];
  const volumes = [...(spec.volumes ?? []), ...containers.flatMap(({ volumeMounts }) => volumeMounts ?? [])];
  return (
    containers.some(({ name }) => name === CONTAINER) ||
    volumes.some(({ name }) => OUR_VOLUMES.includes(name))
  );
}

/**
 * Whether the pod, as it is about to be stored, starts behind our sidecar: first of its containers, of our image (at
 * any version: during an upgrade replicas differ) and with our command.
 */
export function startsBehindSidecar(pod: Pod, { image }: ContainerSettings): boolean {
  const first = pod.spec.initContainers?.[0];
  if (first === undefined || !isInjected(pod) || first.name !== CONTAINER) return false;
  return (
    repository(first.image ?? '') === repository(image) && isDeepStrictEqual(first.command, COMMAND_LINE)
  );
}

/** An image's name without tag and digest. */
const repository = (image: string): string => image.replace(/@.*$/, '').replace(/:[^:/]*$/, '');

export function inject(pod: Pod, settings: InjectionSettings): { pod: Pod; warnings: readonly string[] } {
  const bare = withoutSidecar(pod);
  const kept = isInjected(pod) ? sidecarOf(pod)?.resources : undefined;
  const { resources, warnings } = sidecarResources(bare, settings.resources, kept);
  const api = labelOrAnnotation(bare.metadata, API_ANNOTATION) === 'enabled';
  const graceSeconds = bare.spec.terminationGracePeriodSeconds;
  const sidecar = sidecarContainer(settings, { api, resources, graceSeconds });
  const { metadata, spec } = api ? withApi(bare) : bare;
  return {
    warnings,
    pod: {
      ...bare,
      metadata: {
        ...metadata,
        annotations: { ...metadata.annotations, [STATUS_ANNOTATION]: STATUS_INJECTED },
      },
      spec: {
        ...spec,
        initContainers: [sidecar, ...(spec.initContainers ?? [])],
        volumes: [...(spec.volumes ?? []), ...sidecarVolumes(api)],
      },
    },
  };
}

/** The pod as it was before injection; the same object if it was not injected. */
export function withoutSidecar(pod: Pod): Pod {
  const { [STATUS_ANNOTATION]: status, ...annotations } = pod.metadata.annotations ?? {};
  if (status === undefined) return pod;
  const metadata = { ...pod.metadata, annotations };
  if (!isInjected(pod)) return { ...pod, metadata };
  const { spec } = pod;
  const initContainers = (spec.initContainers ?? []).filter(({ name }) => name !== CONTAINER).map(withoutApi);
  const volumes = (spec.volumes ?? []).filter(({ name }) => !OUR_VOLUMES.includes(name));
  return {
    ...pod,
    metadata,
    spec: {
      ...spec,
      ...lists(spec, { initContainers, volumes }),
      containers: spec.containers.map(withoutApi),
    },
  };
}

function sidecarOf({ spec }: Pod): Container | undefined {
  return spec.initContainers?.find(({ name }) => name === CONTAINER);
}

/** Only lists that were there: an empty one in place of none would be a difference. */
function lists(spec: PodSpec, parts: Partial<PodSpec>): Partial<PodSpec> {
  return Object.fromEntries(
    Object.entries(parts).filter(([key]) => spec[key as keyof PodSpec] !== undefined),
  );
}

function withApi(pod: Pod): Pod {
  const mounted = (container: Container): Container => {
    const mounts = container.volumeMounts ?? [];
    return mounts.some(keepsApiOut) ? container : { ...container, volumeMounts: [...mounts, apiMount] };
  };
  const { spec } = pod;
  const initContainers = spec.initContainers?.map(mounted);
  return {
    ...pod,
    spec: {
      ...spec,
      ...(initContainers && { initContainers }),
      containers: spec.containers.map(mounted),
    },
  };
}

/** The application's own folder there; or a read-only one above it, in which the runtime cannot make ours. */
function keepsApiOut({ mountPath, readOnly }: VolumeMount): boolean {
  const path = posix.normalize(mountPath).replace(/(.)\/$/, '$1');
  if (path === API_DIR) return true;
  return readOnly === true && ABOVE_API_DIR.includes(path);
}

function withoutApi(container: Container): Container {
  const mounts = container.volumeMounts?.filter(({ name }) => name !== API_VOLUME);
  if (mounts === undefined || mounts.length === container.volumeMounts?.length) return container;
  const { volumeMounts: _, ...rest } = container;
  return mounts.length === 0 ? rest : { ...rest, volumeMounts: mounts };
}
