/**
 * Rules and settings of one pod's namespace: put in, looked at, taken out. `netfilter/` does each; this decides what a
 * pod needs. One thing at a time in a namespace; a few at a time on the node.
 */
import { TcpcryptError } from '../../errors/catalogue.ts';
import { describeDifference } from '../../netfilter/differences.ts';
import { ownRules, runIn, save, VARIANTS, type Variant, type Where } from '../../netfilter/iptables.ts';
import { install, remove, verify } from '../../netfilter/namespace.ts';
import type { RuleOptions } from '../../netfilter/rules.ts';
import { surroundings } from '../../netfilter/surroundings.ts';
import { applySettings, type PreviousSettings, restoreSettings } from '../../netfilter/sysctls.ts';
import type { NamespaceHandle } from './namespace-handle.ts';
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
   * Throws ERR_TCPCRYPT_OTHER_MESH where another mesh is at work, and what `install` of `netfilter/` throws.
   * Whether UDP is left untracked, the namespace decides.
   */
  async install(namespace: NamespaceHandle, options: Omit<RuleOptions, 'untrackOthers'>): Promise<Installed> {
    return await this.#turn(namespace, async (where) => {
      const { otherMesh, mayUntrack } = await surroundings(where);
      if (otherMesh !== undefined) {
        const message = `${otherMesh} encrypts the pod's connections already`;
        throw new TcpcryptError('ERR_TCPCRYPT_OTHER_MESH', message);
      }
      const rules = { ...options, untrackOthers: mayUntrack };
      await install(rules, where);
      const { previous, refused } = await applySettings(where);
      return { rules, settings: previous, refused };
    });
  }

  /** What differs, a line each; empty if nothing does. */
  async differences(namespace: NamespaceHandle, options: RuleOptions): Promise<readonly string[]> {
    return await this.#turn(namespace, async (where) => {
      const { mayUntrack } = await surroundings(where);
      return (await verify({ ...options, untrackOthers: mayUntrack }, where)).map(describeDifference);
    });
  }

  /** Whether any rule of ours is there, of whatever layout. */
  async exist(namespace: NamespaceHandle): Promise<boolean> {
    return await this.#turn(namespace, async (where) => {
      for (const variant of VARIANTS) {
        for (const family of [4, 6] as const) {
          const own = ownRules(await save(where, family, variant));
          if (own.some(({ chains }) => chains.length > 0)) return true;
        }
      }
      return false;
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
