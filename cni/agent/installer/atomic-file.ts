/** Files that others read at any moment: whole or not at all, in a folder where a half-made one must not be noticed. */
import {
  chmodSync,
  chownSync,
  closeSync,
  fsyncSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** No runtime takes a file of this name for a configuration or a plugin. */
const TEMPORARY = /^\.tcpcrypt-.*\.tmp$/;

/** Mode and owner are those of `like`. `stillSo` is asked last: false, and nothing happens. Returns whether it did. */
export function writeAtomically(
  path: string,
  content: string | Uint8Array,
  like: Pick<Stats, 'mode' | 'uid' | 'gid'>,
  stillSo: () => boolean = () => true,
): boolean {
  const folder = dirname(path);
  const temporary = join(folder, `.tcpcrypt-${basename(path)}-${process.pid}.tmp`);
  try {
    const file = openSync(temporary, 'w', 0o600);
    try {
      writeAll(file, Buffer.from(content));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    const own = statSync(temporary);
    // Needs a right of its own where the file is another's.
    if (own.uid !== like.uid || own.gid !== like.gid) chownSync(temporary, like.uid, like.gid);
    chmodSync(temporary, like.mode & 0o7777);
    if (!stillSo()) return false;
    renameSync(temporary, path);
    syncFolder(folder);
    return true;
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** What an agent that died in the middle left behind. */
export function removeTemporaries(folder: string): void {
  for (const name of readdirSync(folder))
    if (TEMPORARY.test(name)) rmSync(join(folder, name), { force: true });
}

function writeAll(file: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
}

/** The rename itself outlives a loss of power. */
function syncFolder(folder: string): void {
  const handle = openSync(folder, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
