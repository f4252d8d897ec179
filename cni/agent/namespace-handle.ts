/**
 * A network namespace, held open. A path may come to mean another namespace (a process ID is used again, a container
 * ends), and then the rules would land in a stranger's, or the node's own. So it is opened once, looked at, and every
 * command goes through the descriptor.
 */
import { closeSync, constants, fstatSync, openSync, statfsSync, statSync } from 'node:fs';
import { TcpcryptError } from '../../errors/catalogue.ts';

/** statfs(2): the file system of namespaces. */
const NSFS_MAGIC = 0x6e736673;
/** The node's own, and ours where we have one. */
const PROTECTED = ['/proc/1/ns/net', '/proc/self/ns/net'];

export interface NamespaceHandle extends Disposable {
  /** For commands (`Where.netns`): leads to this namespace as long as the handle is not disposed of. */
  readonly path: string;
  /** Names the namespace as long as it lives. */
  readonly inode: number;
}

/**
 * Undefined if there is no such namespace any more. Throws ERR_TCPCRYPT_NAMESPACE for what is none, or is the node's.
 * Where the agent has its own mount namespace, paths of the node are found through its first process.
 */
export function openNamespace(path: string): NamespaceHandle | undefined {
  const descriptor = openPath(path) ?? openPath(`/proc/1/root${path}`, ['EACCES']);
  if (descriptor === undefined) return undefined;
  try {
    const held = `/proc/${process.pid}/fd/${descriptor}`;
    if (statfsSync(held).type !== NSFS_MAGIC) throw refused(path, 'it is no namespace');
    const { ino } = fstatSync(descriptor);
    if (PROTECTED.some((own) => inodeOf(own) === ino)) throw refused(path, "it is the node's own");
    return { path: held, inode: ino, [Symbol.dispose]: () => closeSync(descriptor) };
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

/** Undefined where the path leads nowhere. */
export function inodeOf(path: string): number | undefined {
  try {
    return statSync(path).ino;
  } catch {
    return undefined;
  }
}

function openPath(path: string, absent: readonly string[] = []): number | undefined {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if ([...absent, 'ENOENT', 'ENOTDIR', 'ESRCH'].includes(code)) return undefined;
    throw refused(path, (error as Error).message);
  }
}

function refused(path: string, why: string): TcpcryptError {
  return new TcpcryptError('ERR_TCPCRYPT_NAMESPACE', `${path}: ${why}`);
}
