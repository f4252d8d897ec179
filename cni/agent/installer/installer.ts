/**
 * Keeps the plugin installed on the node: the executable in the CNI binaries' folder, and our entry at the end of every
 * network configuration list. It watches first and looks then, so that nothing slips between; it writes whole files
 * only, and touches nothing but its own entry. Who throws the entry out again and again wins: then the agent works
 * without it (keeper.ts) and says so. Plain `.conf` files are left alone: they cannot hold a chain.
 */
import {
  type FSWatcher,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  watch,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../../../observability/log.ts';
import { removeTemporaries, writeAtomically } from './atomic-file.ts';
import { type Entry, namesPlugin, PLUGIN_TYPE, withEntry, withoutEntry } from './conflist.ts';

export interface InstallerOptions {
  /** The runtime's folder of network configurations; may come later. */
  readonly confDir: string;
  readonly binDir: string;
  /** The static executable in the image. */
  readonly executable: string;
  readonly entry: Entry;
  readonly log: Logger;
  readonly onChange?: (status: InstallerStatus) => void;
  /** The entry may be thrown out of a file this often in this time. */
  readonly losses?: { readonly most: number; readonly withinMs: number };
  /** How often to look without being told. */
  readonly lookAgainMs?: number;
  /** Between entry and executable at the uninstallation: a runtime may be about to call it. */
  readonly settleMs?: number;
}

export type FileState = 'installed' | 'left_alone' | 'given_up';

export interface InstallerStatus {
  /** Whether the configuration that a runtime takes, the first by name, has our entry and the executable is there. */
  readonly chained: boolean;
  /** Why not, in words. */
  readonly reason: string;
  /** Of each list, by file name. */
  readonly files: ReadonlyMap<string, FileState>;
  /** How often the entry was thrown out since the start. */
  readonly losses: number;
}

/** libcni's: what a runtime takes for a network configuration. */
const CONFIGURATION = /\.(conf|conflist|json)$/;
const LIST = /\.conflist$/;
const MAX_BYTES = 1 << 20;
const EVENT_SETTLES_MS = 20;
const EXECUTABLE_LIKE = { mode: 0o755, uid: 0, gid: 0 };

interface Known {
  state: FileState;
  reason: string;
  /** When the entry was found missing. */
  lost: number[];
}

export class Installer {
  readonly #options: InstallerOptions;
  readonly #known = new Map<string, Known>();
  #watcher: FSWatcher | undefined;
  #watched = 0;
  #timer: NodeJS.Timeout | undefined;
  #soon: NodeJS.Timeout | undefined;
  #losses = 0;
  #executableProblem = 'the executable is not installed yet';
  #status: InstallerStatus = { chained: false, reason: 'not looked yet', files: new Map(), losses: 0 };
  #said = '';

  constructor(options: InstallerOptions) {
    this.#options = options;
  }

  get status(): InstallerStatus {
    return this.#status;
  }

  /** Installs, and keeps it so until `stop` or `uninstall`. */
  start(): void {
    this.#timer = setInterval(() => this.#look(), this.#options.lookAgainMs ?? 10_000).unref();
    this.#look();
  }

  /** Leaves everything as it is. */
  stop(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#soon);
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  /** The entries first; the executable last, and only when no configuration names it. */
  async uninstall(): Promise<void> {
    this.stop();
    const { confDir, binDir, log, settleMs = 2000 } = this.#options;
    for (const name of namesIn(confDir).filter((each) => LIST.test(each))) {
      this.#attempt(name, () => this.#edit(name, withoutEntry));
    }
    await sleep(settleMs);
    const needing = namesIn(confDir).filter((name) => {
      const text = readText(join(confDir, name));
      return text === undefined || namesPlugin(text);
    });
    if (needing.length > 0) {
      log.warn({ files: needing }, 'the executable stays: configurations name it');
      return;
    }
    rmSync(join(binDir, PLUGIN_TYPE), { force: true });
    log.info('the plugin is uninstalled');
  }

  #look(): void {
    this.#watch();
    this.#installExecutable();
    const names = namesIn(this.#options.confDir);
    for (const name of names.filter((each) => LIST.test(each))) this.#attempt(name, () => this.#keep(name));
    this.#publish(names);
  }

  /** A folder that was made anew is another one under the old name. */
  #watch(): void {
    const { confDir, log } = this.#options;
    try {
      const { ino } = statSync(confDir);
      if (this.#watcher !== undefined && ino === this.#watched) return;
      this.#watcher?.close();
      this.#watcher = watch(confDir, { persistent: false }, () => {
        this.#soon ??= setTimeout(() => {
          this.#soon = undefined;
          this.#look();
        }, EVENT_SETTLES_MS);
      });
      this.#watcher.on('error', (error) => log.debug({ error: error.message }, 'watching ended'));
      this.#watched = ino;
      removeTemporaries(confDir);
    } catch {
      // Not there: looked for again.
      this.#watcher?.close();
      this.#watcher = undefined;
    }
  }

  #installExecutable(): void {
    const { binDir, executable, log } = this.#options;
    const target = join(binDir, PLUGIN_TYPE);
    try {
      const wanted = readFileSync(executable);
      const found = lstatSync(target, { throwIfNoEntry: false });
      const same = found?.isFile() && (found.mode & 0o111) !== 0 && readFileSync(target).equals(wanted);
      if (!same) {
        mkdirSync(binDir, { recursive: true, mode: 0o755 });
        removeTemporaries(binDir);
        writeAtomically(target, wanted, EXECUTABLE_LIKE);
        log.info({ target }, 'the plugin is installed');
      }
      this.#executableProblem = '';
    } catch (error) {
      this.#executableProblem = `${target}: ${(error as Error).message}`;
    }
  }

  /** One list, on one look. */
  #keep(name: string): void {
    const known = this.#known.get(name) ?? { state: 'left_alone', reason: '', lost: [] };
    this.#known.set(name, known);
    // An entry whose plugin is missing would keep every pod from starting.
    if (known.state === 'given_up' || this.#executableProblem !== '') return;
    const edit = this.#edit(name, (text) => {
      const wanted = withEntry(text, this.#options.entry);
      const lost = known.state === 'installed' && wanted.kind === 'changed' && !namesPlugin(text);
      return lost && this.#lose(name, known) ? { kind: 'left_alone', reason: 'it is thrown out' } : wanted;
    });
    if ((known.state as FileState) === 'given_up') return;
    known.state = edit.kind === 'left_alone' ? 'left_alone' : 'installed';
    known.reason = edit.kind === 'left_alone' ? edit.reason : '';
    if (edit.kind === 'changed') this.#options.log.info({ file: name }, 'our entry is in the configuration');
  }

  /** The entry was there and is gone. Returns whether that was once too often. */
  #lose(name: string, known: Known): boolean {
    const { most, withinMs } = this.#options.losses ?? { most: 5, withinMs: 600_000 };
    const now = performance.now();
    known.lost = [...known.lost.filter((at) => now - at < withinMs), now];
    this.#losses++;
    if (known.lost.length <= most) return false;
    known.state = 'given_up';
    known.reason = `our entry was thrown out ${known.lost.length} times`;
    this.#options.log.error({ file: name }, `${known.reason}; it is left out from now on`);
    return true;
  }

  #edit(name: string, change: (text: string) => ReturnType<typeof withEntry>): ReturnType<typeof withEntry> {
    const path = join(this.#options.confDir, name);
    const stats = lstatSync(path);
    if (!stats.isFile()) return { kind: 'left_alone', reason: 'it is no plain file' };
    const text = readText(path);
    if (text === undefined) return { kind: 'left_alone', reason: 'it is too long' };
    const edit = change(text);
    if (edit.kind !== 'changed') return edit;
    // Whoever writes at the same time goes first; its event brings us back.
    const written = writeAtomically(path, edit.text, stats, () => readText(path) === text);
    return written ? edit : { kind: 'left_alone', reason: 'it is being written' };
  }

  #attempt(name: string, action: () => unknown): void {
    try {
      action();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      const known = this.#known.get(name);
      if (known !== undefined)
        Object.assign(known, { state: 'left_alone', reason: (error as Error).message });
      this.#options.log.warn(
        { file: name, error: (error as Error).message },
        'a configuration cannot be changed',
      );
    }
  }

  #publish(names: readonly string[]): void {
    const lists = names.filter((name) => LIST.test(name));
    const files = new Map(lists.map((name) => [name, this.#known.get(name)?.state ?? 'left_alone']));
    const reason = this.#whyNot(names);
    this.#status = { chained: reason === '', reason, files, losses: this.#losses };
    const said = JSON.stringify([reason, [...files], this.#losses]);
    if (said === this.#said) return;
    this.#said = said;
    this.#options.onChange?.(this.#status);
  }

  #whyNot(names: readonly string[]): string {
    const [first] = names;
    if (this.#executableProblem !== '') return this.#executableProblem;
    if (first === undefined) return `there is no network configuration in ${this.#options.confDir}`;
    if (!LIST.test(first)) return `${first} is no list: nothing can be added to it`;
    const known = this.#known.get(first);
    return known?.state === 'installed' ? '' : `${first}: ${known?.reason ?? 'it could not be read'}`;
  }
}

/** Names of configurations, in the order in which a runtime looks at them; empty where there is no folder. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => CONFIGURATION.test(name))
      .sort();
  } catch {
    return [];
  }
}

/** Undefined if it is longer than any configuration is. */
function readText(path: string): string | undefined {
  if (statSync(path).size > MAX_BYTES) return undefined;
  return readFileSync(path, 'utf8');
}
