/**
 * Rules and settings of one pod's namespace: put in, looked at, taken out. `netfilter/` does each; this decides what a
 * pod needs. One at a time in a namespace; a few at a time on the node.
 */
import { TcpcryptError } from '../../errors/catalogue.ts';
import { describeDifference } from '../../netfilter/differences.ts';
import { ownRules, runIn, save, VARIANTS } from '../../netfilter/iptables.ts';
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

/** proc(5), /proc/net/tcp: states from which nothing is sent any more. */
const SILENT_STATES = ['06', '07', '0A'];

const turns = new Turns(4);

/**
 * Throws ERR_TCPCRYPT_OTHER_MESH where another mesh is at work, and what `install` throws.
 * `rules.dataWhenNoState` is taken as it is; whether UDP is left untracked, the namespace decides.
 */
export async function installRules(namespace: NamespaceHandle, rules: RuleOptions): Promise<Installed> {
  return await turns.take(namespace.inode, async () => {
    const where = { netns: namespace.path };
    const { otherMesh, mayUntrack } = await surroundings(where);
    if (otherMesh !== undefined) {
      throw new TcpcryptError('ERR_TCPCRYPT_OTHER_MESH', `${otherMesh} encrypts the pod's connections already`);
    }
    const all = { ...rules, untrackOthers: mayUntrack };
    await install(all, where);
    const { previous, refused } = await applySettings(where);
    return { rules: all, settings: previous, refused };
  });
}

/** What differs, a line each; empty if nothing does. */
export async function differingRules(namespace: NamespaceHandle, rules: RuleOptions): Promise<readonly string[]> {
  return await turns.take(namespace.inode, async () => {
    const where = { netns: namespace.path };
    const { mayUntrack } = await surroundings(where);
    return (await verify({ ...rules, untrackOthers: mayUntrack }, where)).map(describeDifference);
  });
}

/** Whether any rule of ours is there, of whatever layout. */
export async function hasRules(namespace: NamespaceHandle): Promise<boolean> {
  return await turns.take(namespace.inode, async () => {
    for (const variant of VARIANTS) {
      for (const family of [4, 6] as const) {
        const own = ownRules(await save({ netns: namespace.path }, family, variant));
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
export async function removeRules(namespace: NamespaceHandle, settings?: PreviousSettings): Promise<boolean> {
  return await turns.take(namespace.inode, async () => {
    const where = { netns: namespace.path };
    const { stdout } = await runIn(where, 'cat', ['/proc/net/tcp', '/proc/net/tcp6']);
    const states = stdout
      .split('\n')
      .map((line) => /^\s*\d+: \S+ \S+ ([0-9A-F]{2}) /.exec(line)?.[1])
      .filter((state) => state !== undefined);
    if (states.some((state) => !SILENT_STATES.includes(state))) return false;
    await remove(where);
    await restoreSettings(where, settings);
    return true;
  });
}
