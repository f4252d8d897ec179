/**
 * What the agent did to which container's namespace: one small file each, so that whatever process comes next can
 * check it and undo it. The folder is on the node's /run: it ends with the namespaces.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RuleOptions } from '../../netfilter/rules.ts';
import type { PreviousSettings } from '../../netfilter/sysctls.ts';

export interface Attachment {
  readonly containerId: string;
  readonly interfaceName: string;
  /** Name of the CNI network; empty if the rules were not put in by a CNI call. */
  readonly network: string;
  /** As the runtime named it. */
  readonly netns: string;
  readonly inode: number;
  readonly podNamespace: string;
  readonly podName: string;
  readonly podUid: string;
  readonly ruleLayout: number;
  readonly rules: RuleOptions;
  readonly settings: PreviousSettings;
}

const SUFFIX = '.json';

export class Attachments {
  readonly #folder: string;
  readonly #known = new Map<string, Attachment>();

  /** Reads what is there; files that are no attachments are left alone. */
  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(folder)) {
      const attachment = name.endsWith(SUFFIX) ? read(join(folder, name)) : undefined;
      if (attachment !== undefined) this.#known.set(keyOf(attachment), attachment);
    }
  }

  all(): readonly Attachment[] {
    return [...this.#known.values()];
  }

  get(containerId: string, interfaceName: string): Attachment | undefined {
    return this.#known.get(keyOf({ containerId, interfaceName }));
  }

  set(attachment: Attachment): void {
    const key = keyOf(attachment);
    const file = this.#file(key);
    writeFileSync(`${file}.new`, JSON.stringify(attachment), { mode: 0o600 });
    renameSync(`${file}.new`, file);
    this.#known.set(key, attachment);
  }

  delete({ containerId, interfaceName }: { containerId: string; interfaceName: string }): void {
    const key = keyOf({ containerId, interfaceName });
    this.#known.delete(key);
    rmSync(this.#file(key), { force: true });
  }

  /** For good: no agent will come to read them. */
  clear(): void {
    this.#known.clear();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #file(key: string): string {
    return join(this.#folder, `${key}${SUFFIX}`);
  }
}

/** Container IDs have no comma, nor interface names a slash (the parser of requests sees to that). */
function keyOf({ containerId, interfaceName }: { containerId: string; interfaceName: string }): string {
  return `${containerId},${interfaceName}`;
}

function read(file: string): Attachment | undefined {
  try {
    const value = JSON.parse(readFileSync(file, 'utf8'));
    return typeof value.containerId === 'string' && typeof value.inode === 'number' ? value : undefined;
  } catch {
    return undefined;
  }
}
