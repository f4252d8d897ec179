/**
 * A pod's network namespace, found by its processes: the kubelet puts each pod's into a control group that carries the
 * pod's UID. Needs the node's process namespace.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { type NamespaceHandle, openNamespace } from './namespace-handle.ts';

/** `pod` and a UID, with the dashes as underscores where systemd manages the groups. The outermost one counts. */
const POD_IN_GROUP =
  /[/-]pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?(?:\/|$)/m;

/** One process of each pod of this node, by the pod's UID. */
export function podProcesses(procDir = '/proc'): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  for (const name of readdirSync(procDir)) {
    const uid = /^\d+$/.test(name) ? podUidOf(`${procDir}/${name}`) : undefined;
    // Any will do: they share the namespace.
    if (uid !== undefined && !found.has(uid)) found.set(uid, Number(name));
  }
  return found;
}

/** Undefined if the process has ended, or is not the pod's (any more). */
export function openPodNamespace(uid: string, processId: number): NamespaceHandle | undefined {
  const namespace = openNamespace(`/proc/${processId}/ns/net`);
  if (namespace === undefined) return undefined;
  // The ID may have been used again between the look and the opening.
  if (podUidOf(`/proc/${processId}`) === uid) return namespace;
  namespace[Symbol.dispose]();
  return undefined;
}

function podUidOf(processDir: string): string | undefined {
  try {
    return parseGroups(readFileSync(`${processDir}/cgroup`, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Of the content of /proc/PID/cgroup (cgroups(7)); exported for tests. */
export function parseGroups(text: string): string | undefined {
  return POD_IN_GROUP.exec(text)?.[1]?.replaceAll('_', '-');
}
