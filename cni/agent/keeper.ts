/**
 * Keeps the rules of the node's injected pods: puts them in where no CNI call did (no chaining to be had, an agent that
 * was away, a pod that was not known yet), and mends what others broke. Never to another layout than the sidecar's own.
 */
import type { TcpcryptError } from '../../errors/catalogue.ts';
import { RULE_LAYOUT } from '../../netfilter/rules.ts';
import { errorFields, type Logger } from '../../observability/log.ts';
import type { Attachment, Attachments } from './attachments.ts';
import { inodeOf, type NamespaceHandle, openNamespace } from './namespace-handle.ts';
import type { Pod } from './pod.ts';
import type { PodRules } from './pod-rules.ts';
import { openPodNamespace, podProcesses } from './processes.ts';
import type { VerbParts } from './verbs.ts';

export interface KeeperOptions {
  readonly attachments: Attachments;
  readonly podRules: PodRules;
  readonly pods: () => readonly Pod[];
  readonly supported: () => boolean;
  /** Rejects where the sidecar does not answer. */
  readonly ruleLayout: (podUid: string) => Promise<number>;
  readonly leftAlone: VerbParts['leftAlone'];
  readonly mended: (result: 'success' | 'error') => void;
  readonly log: Logger;
  /** Between two looks at every pod. */
  readonly everyMs?: number;
  readonly procDir?: string;
}

/** Pods that have no rules yet are looked for this often. */
const NEW_PODS_MS = 10_000;
/** Rules that no CNI call put in are the pod's, not a container's. */
const INTERFACE = 'pod';
const SOON_MS = 250;

export class Keeper {
  readonly #options: KeeperOptions;
  readonly #leftAlone = new Set<string>();
  #timers: NodeJS.Timeout[] = [];
  #soon: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: KeeperOptions) {
    this.#options = options;
  }

  start(): void {
    const { everyMs = 300_000 } = this.#options;
    this.#timers = [
      setInterval(() => this.#look(true), everyMs).unref(),
      setInterval(() => this.#look(false), NEW_PODS_MS).unref(),
    ];
    this.#look(true);
  }

  /** A pod came or changed: if it has no rules yet, now is the time. */
  notice(pod: Pod): void {
    if (pod.sidecar?.started !== true || pod.ending || this.#stopped || this.hasRules(pod.uid)) return;
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.#look(false);
    }, SOON_MS).unref();
  }

  /** In the namespace that the pod has now: a sandbox that is made anew has another. */
  hasRules(podUid: string): boolean {
    const { attachments } = this.#options;
    return attachments.all().some((each) => each.podUid === podUid && inodeOf(each.netns) === each.inode);
  }

  forget(podUid: string): void {
    this.#leftAlone.delete(podUid);
  }

  /** Settles when what was begun is done. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timers.forEach(clearInterval);
    clearTimeout(this.#soon);
    await this.#looking;
  }

  #look(all: boolean): void {
    this.#looking = this.#looking.then(() => this.#lookNow(all));
  }

  /** Never throws. */
  async #lookNow(all: boolean): Promise<void> {
    const { pods, supported, log, procDir } = this.#options;
    if (!supported() || this.#stopped) return;
    try {
      if (all) this.#dropEnded();
      const wanted = pods().filter(({ uid, sidecar, ending }) => {
        if (!sidecar?.started || ending) return false;
        return all || !(this.hasRules(uid) || this.#leftAlone.has(uid));
      });
      if (wanted.length === 0) return;
      const processes = podProcesses(procDir);
      for (const pod of wanted) {
        if (this.#stopped) return;
        await this.#keep(pod, processes.get(pod.uid));
      }
    } catch (error) {
      log.error(errorFields(error), 'the rules of the pods could not be looked at');
    }
  }

  /** By a process of the pod's; where processes cannot be seen, by the path that a CNI call named. */
  #namespaceOf({ uid }: Pod, processId: number | undefined): NamespaceHandle | undefined {
    if (processId !== undefined) return openPodNamespace(uid, processId);
    const attachment = this.#options.attachments.all().find(({ podUid }) => podUid === uid);
    return attachment && openSame(attachment);
  }

  /** Never throws. */
  async #keep(pod: Pod, processId: number | undefined): Promise<void> {
    const { attachments, podRules, mended, log } = this.#options;
    const rules = pod.sidecar?.rules;
    const name = { namespace: pod.namespace, name: pod.name };
    if (rules === undefined) return this.#once(pod, 'arguments', pod.sidecar?.problem ?? '');
    try {
      using namespace = this.#namespaceOf(pod, processId);
      if (namespace === undefined) return;
      const known = attachments
        .all()
        .find((each) => each.podUid === pod.uid && each.inode === namespace.inode);
      const options = {
        ...rules,
        dataWhenNoState: known?.rules.dataWhenNoState ?? (await this.#asFound(namespace, rules)),
      };
      const differences = await podRules.differences(namespace, options);
      if (differences.length > 0) {
        if (!(await this.#mayMend(pod, namespace))) return;
        log.info({ ...name, differences: differences.slice(0, 5) }, 'the rules of a pod are put in');
      }
      const netns = `/proc/${processId}/ns/net`;
      if (differences.length === 0 && known !== undefined) {
        // Found by a process, where the runtime's path leads nowhere from here.
        if (inodeOf(known.netns) !== known.inode) attachments.set({ ...known, netns });
        return;
      }
      const installed = await podRules.install(namespace, rules, () => options.dataWhenNoState);
      const placeless = { containerId: pod.uid, interfaceName: INTERFACE, network: '' };
      attachments.set({
        ...(known ?? { ...placeless, netns }),
        ...{ podNamespace: pod.namespace, podName: pod.name, podUid: pod.uid },
        ...{ inode: namespace.inode, ruleLayout: RULE_LAYOUT, rules: installed.rules },
        settings: known?.settings ?? installed.settings,
      });
      if (differences.length > 0) mended('success');
    } catch (error) {
      mended('error');
      const other = (error as TcpcryptError).code === 'ERR_TCPCRYPT_OTHER_MESH';
      this.#once(pod, other ? 'other_mesh' : 'failed', (error as Error).message);
    }
  }

  /**
   * Rules that are there already, the sidecar's own or an earlier agent's, stay what they are; new ones come later
   * than the pod's first socket.
   */
  async #asFound(namespace: NamespaceHandle, rules: NonNullable<Pod['sidecar']>['rules']): Promise<boolean> {
    const { podRules } = this.#options;
    if (rules === undefined || !(await podRules.exist(namespace))) return false;
    return (await podRules.differences(namespace, { ...rules, dataWhenNoState: true })).length === 0;
  }

  /** Where there are none, ours; else only those of the layout that the sidecar serves. */
  async #mayMend(pod: Pod, namespace: NamespaceHandle): Promise<boolean> {
    const { podRules, ruleLayout, log } = this.#options;
    const layout = await ruleLayout(pod.uid).catch(() => undefined);
    if (layout === RULE_LAYOUT) return true;
    if (layout === undefined) return !(await podRules.exist(namespace));
    log.warn(
      { namespace: pod.namespace, name: pod.name, layout, ours: RULE_LAYOUT },
      'the rules of a pod differ, and its sidecar serves another layout: they stay as they are',
    );
    return false;
  }

  #once(pod: Pod, reason: Parameters<VerbParts['leftAlone']>[1], message: string): void {
    if (this.#leftAlone.has(pod.uid)) return;
    this.#leftAlone.add(pod.uid);
    this.#options.leftAlone(pod, reason, message);
  }

  /** Records of namespaces that are gone, and whose pods are as well. */
  #dropEnded(): void {
    const { attachments, pods } = this.#options;
    const living = new Set(pods().map(({ uid }) => uid));
    for (const attachment of attachments.all()) {
      if (living.has(attachment.podUid)) continue;
      using namespace = openSame(attachment);
      if (namespace === undefined) attachments.delete(attachment);
    }
  }
}

/** The namespace of a record, if its path still leads there. */
function openSame({ netns, inode }: Attachment): NamespaceHandle | undefined {
  try {
    const namespace = openNamespace(netns);
    if (namespace?.inode === inode) return namespace;
    namespace?.[Symbol.dispose]();
  } catch {
    // The path means something else now.
  }
  return undefined;
}
