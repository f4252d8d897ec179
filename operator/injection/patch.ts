/** What the webhook changed of a pod, as a JSON Patch (RFC 6902). Whole values at the few places that it ever touches. */
import { isDeepStrictEqual } from 'node:util';
import type { Pod } from './pod.ts';

export interface PatchOperation {
  /** `add` replaces a member that is there (RFC 6902, section 4.1). */
  readonly op: 'add' | 'remove';
  readonly path: string;
  readonly value?: unknown;
}

export function podPatch(before: Pod, after: Pod): PatchOperation[] {
  return [
    ...difference('/metadata/annotations', before.metadata.annotations, after.metadata.annotations),
    ...difference('/spec/initContainers', before.spec.initContainers, after.spec.initContainers),
    ...difference('/spec/containers', before.spec.containers, after.spec.containers),
    ...difference('/spec/volumes', before.spec.volumes, after.spec.volumes),
  ];
}

function difference(path: string, before: unknown, after: unknown): PatchOperation[] {
  if (isDeepStrictEqual(before, after)) return [];
  return after === undefined ? [{ op: 'remove', path }] : [{ op: 'add', path, value: after }];
}
