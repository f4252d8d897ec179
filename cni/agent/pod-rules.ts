/**
 * Rules and settings of one pod's namespace: put in, looked at, taken out. `netfilter/` does each; this decides what a
 * pod needs. One thing at a time in a namespace; a few at a time on the node.
 */
import { TcpcryptError } from '../../errors/catalogue.ts';
import { describeDifference } from '../../netfilter/differences.ts';
import { ownRules, runIn, snapshot, type Variant, type Where } from '../../netfilter/iptables.ts';
import { install, remove, verify } from '../../netfilter/namespace.ts';
import type { RuleOptions } from '../../netfilter/rules.ts';
import { surroundings } from '../../netfilter/surroundings.ts';
import { applySettings, type PreviousSettings, restoreSettings } from '../../netfilter/sysctls.ts';
import type { NamespaceHandle } from './namespace-handle.ts';
import type { SidecarRules } from './rule-options.ts';
import { Turns } from './turns.ts';

export interface Installed {
  readonly rules: RuleOptions;
  readonly settings: PreviousSettings;
  /** What could not be set, in words. */
  readonly refused: readonly string[];
}

/** proc(5), /proc/net/tcp: states from which nothing is sent any more (TIME_WAIT, CLOSE, LISTEN). */
const SILENT_STATES = ['06', '07', '0A'];
const AT_ONCE = 4;

export class PodRules {
  readonly #variant: Variant | undefined;
  readonly #turns = new Turns(AT_ONCE);

  /** `variant`: of iptables; default what works on this node. */
  constructor(variant?: Variant) {
    this.#variant = variant;
  }

  /**
   * `first` tells, when it is asked, whether these rules are still older than the namespace's first socket. Throws
   * ERR_TCPCRYPT_OTHER_MESH where another mesh is at work, and what `install` of `netfilter/` throws.
   */
  async install(namespace: NamespaceHandle, sidecar: SidecarRules, first: () => boolean): Promise<Installed> {
    return await this.#turn(namespace, async (where) => {
      const now = await snapshot(where);
      const { otherMesh, mayUntrack } = await surroundings(where, now);
      if (otherMesh !== undefined) {
        const message = `${otherMesh} encrypts the pod's connections already`;
        throw new TcpcryptError('ERR_TCPCRYPT_OTHER_MESH', message);
      }
      let rules = { ...sidecar, untrackOthers: mayUntrack, dataWhenNoState: first() };
      await install(rules, where, now);
      if (rules.dataWhenNoState && !first()) {
        rules = { ...rules, dataWhenNoState: false };
        await install(rules, where);
      }
      const { previous, refused } = await applySettings(where);
      return { rules, settings: previous, refused };
    });
  }

  /** What differs, a line each; empty if nothing does. */
  async differences(namespace: NamespaceHandle, options: RuleOptions): Promise<readonly string[]> {
    return await this.#turn(namespace, async (where) => {
      const now = await snapshot(where);
      const { mayUntrack } = await surroundings(where, now);
      return (await verify({ ...options, untrackOthers: mayUntrack }, where, now)).map(describeDifference);
    });
  }

  /** Whether any rule of ours is there, of whatever layout. */
  async exist(namespace: NamespaceHandle): Promise<boolean> {
    return await this.#turn(namespace, async (where) => {
      const own = [...(await snapshot(where)).values()].flatMap(ownRules);
      return own.some(({ chains }) => chains.length > 0);
    });
  }

  /**
   * Takes them out, unless a socket could still send: without the rules the kernel would repeat in plain text what was
   * to be encrypted. They end with the namespace then. Returns whether they are out.
   */
  async remove(namespace: NamespaceHandle, settings?: PreviousSettings): Promise<boolean> {
    return await this.#turn(namespace, async (where) => {
      const { stdout } = await runIn(where, 'cat', ['/proc/net/tcp', '/proc/net/tcp6']);
      const states = stdout.matchAll(/^\s*\d+: \S+ \S+ ([0-9A-F]{2}) /gm);
      if ([...states].some(([, state = '']) => !SILENT_STATES.includes(state))) return false;
      await remove(where);
      await restoreSettings(where, settings);
      return true;
    });
  }

  #turn<T>(namespace: NamespaceHandle, work: (where: Where) => Promise<T>): Promise<T> {
    const where = {
      netns: namespace.path,
      ...(this.#variant !== undefined && { variant: this.#variant }),
    };
    return this.#turns.take(namespace.inode, () => work(where));
  }
}
