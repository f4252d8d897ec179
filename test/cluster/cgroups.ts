/** A node's cgroup: below it the kubelet keeps its pods'. Version 1 has one in each hierarchy. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

/** Mount points of all hierarchies: file system type cgroup or cgroup2. */
function hierarchies(): string[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, , type]) => type === 'cgroup' || type === 'cgroup2')
    .map(([, path]) => path);
}

export function makeCgroup(name: string): void {
  for (const hierarchy of hierarchies()) mkdirSync(join(hierarchy, name), { recursive: true });
}

/** Removes it and all below. Its processes have ended, though the kernel may take a moment to see so. */
export async function removeCgroup(name: string): Promise<void> {
  for (const hierarchy of hierarchies()) {
    const path = join(hierarchy, name);
    for (let tries = 50; existsSync(path); tries--) {
      try {
        removeTree(path);
      } catch (error) {
        if (tries === 0) throw error;
        await setTimeout(100);
      }
    }
  }
}

/** Its files cannot be removed, and need not be. */
function removeTree(path: string): void {
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) removeTree(join(path, entry.name));
  rmdirSync(path);
}
