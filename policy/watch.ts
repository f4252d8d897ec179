/**
 * Watches one file and hands over its content when that changes. The file may be written in place,
 * replaced by a rename, or be a Kubernetes volume's link through `..data`, which is swapped as a whole:
 * so the folder is watched, not the file, and a look each second finds what no event told (links that
 * lead elsewhere, file systems without events, a folder that came later).
 */
import { createHash } from 'node:crypto';
import { type FSWatcher, watch } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

export interface WatchOptions {
  /** The file cannot be read (again): once for each kind of failure in a row. */
  readonly onError?: (error: NodeJS.ErrnoException) => void;
  /** Content that the caller has already: not handed over until it changes. */
  readonly initial?: string;
  readonly debounceMs?: number;
  readonly pollMs?: number;
}

const CLOCK_TICK_MS = 100;

/** The first content follows soon after the call, each later one when it differs. Keeps no process alive. */
export function watchFile(
  path: string,
  onChange: (text: string) => void,
  options: WatchOptions = {},
): { close(): void } {
  const { onError, initial, debounceMs = 50, pollMs = 1_000 } = options;
  let closed = false;
  let reading = false;
  let lastSeen = '';
  let lastDigest = initial === undefined ? '' : digest(initial);
  let lastFailure = '';
  let folder: FSWatcher | undefined;
  let pending: NodeJS.Timeout | undefined;

  /** The content, if it is whole and not the last one; what failed is told once. */
  const readNew = async (): Promise<string | undefined> => {
    try {
      const before = await look(path);
      if (before.state === lastSeen) return undefined;
      const text = await readFile(path, 'utf8');
      if ((await look(path)).state !== before.state) {
        schedule();
        return undefined;
      }
      // A change in the same tick of the file system's clock would look alike: read such a file once more.
      lastSeen = Date.now() - before.changedAtMs > CLOCK_TICK_MS ? before.state : '';
      lastFailure = '';
      const found = digest(text);
      if (found === lastDigest) return undefined;
      lastDigest = found;
      return text;
    } catch (error) {
      const failure = error as NodeJS.ErrnoException;
      lastSeen = '';
      const known = failure.code === lastFailure;
      lastFailure = failure.code ?? '';
      if (!closed && !known) onError?.(failure);
      return undefined;
    }
  };

  const read = async (): Promise<void> => {
    if (closed || reading) return;
    reading = true;
    const text = await readNew();
    reading = false;
    if (text !== undefined && !closed) onChange(text);
  };

  const schedule = (): void => {
    if (closed) return;
    clearTimeout(pending);
    pending = setTimeout(read, debounceMs).unref();
  };

  const watchFolder = (): void => {
    try {
      folder = watch(dirname(path), { persistent: false }, schedule);
      folder.on('error', () => {
        folder?.close();
        folder = undefined;
      });
    } catch {
      folder = undefined;
    }
  };

  const poll = setInterval(() => {
    if (folder === undefined) watchFolder();
    void read();
  }, pollMs).unref();

  watchFolder();
  void read();
  return {
    close() {
      closed = true;
      clearInterval(poll);
      clearTimeout(pending);
      folder?.close();
    },
  };
}

/** Which file it is and in which state, links followed. */
async function look(path: string): Promise<{ state: string; changedAtMs: number }> {
  const s = await stat(path, { bigint: true });
  return {
    state: [s.dev, s.ino, s.size, s.mtimeNs, s.ctimeNs].join(':'),
    changedAtMs: Number(s.ctimeNs / 1_000_000n),
  };
}

/** The content's digest, not the content, is kept: the file may hold keys. */
const digest = (text: string): string => createHash('sha256').update(text).digest('base64');
