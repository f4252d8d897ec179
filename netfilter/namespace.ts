/**
 * Brings the rules of `rules.ts` into a network namespace, checks them there and takes them out again.
 *
 * Invariants: installing what is there already changes nothing, counters included; an install that fails leaves what
 * was there before; a removal touches nothing that is not named TCPCRYPT_…. Needs NET_ADMIN, and for another
 * namespace than the caller's SYS_ADMIN.
 */
import { existsSync } from 'node:fs';
import { TcpcryptError } from '../errors/catalogue.ts';
import { type Difference, describeDifference, findDifferences } from './differences.ts';
import {
  ownRules,
  replaceText,
  restore,
  runIn,
  type SavedTable,
  type Snapshot,
  save,
  snapshotKey,
  VARIANTS,
  type Variant,
  type Where,
} from './iptables.ts';
import { buildRules, type Family, queueRanges, type RuleOptions, type TableRules } from './rules.ts';

/** What this kernel can do for us. */
export interface Capabilities {
  /** The variant of iptables in which all our rules work; undefined if in none. */
  readonly variant: Variant | undefined;
  readonly nfqueue: boolean;
  readonly connmark: boolean;
  /** Families whose packet filter works; IPv6 may be missing. */
  readonly families: readonly Family[];
  /** What iptables said where something does not work. */
  readonly reasons: readonly string[];
}

const PROBE_CHAIN = 'TCPCRYPT_PROBE';
const probeOptions: RuleOptions = {
  ...queueRanges(0, 1),
  strict: false,
  dataWhenNoState: true,
  untrackOthers: true,
  excludePorts: [{ port: 1 }],
};

let probed: Promise<Capabilities> | undefined;

/** Tries the rules in a scratch namespace; asked once a process. */
export async function probe(): Promise<Capabilities> {
  probed ??= probeOnce();
  return await probed;
}

async function probeOnce(): Promise<Capabilities> {
  const reasons: string[] = [];
  const works = async (variant: Variant, family: Family, text: string): Promise<boolean> => {
    const failure = await tryRules(variant, family, text);
    if (failure !== '') reasons.push(`${variant}, IPv${family}: ${failure}`);
    return failure === '';
  };
  const one = (rule: string): string =>
    `*mangle\n:${PROBE_CHAIN} - [0:0]\n-A ${PROBE_CHAIN} ${rule}\nCOMMIT\n`;
  for (const variant of VARIANTS) {
    if (!(await works(variant, 4, replaceText([], probeChains(4))))) continue;
    const families: Family[] = [4];
    if (existsSync('/proc/net/if_inet6') && (await works(variant, 6, replaceText([], probeChains(6))))) {
      families.push(6);
    }
    return { variant, nfqueue: true, connmark: true, families, reasons };
  }
  const some = async (rule: string): Promise<boolean> => {
    for (const variant of VARIANTS) if (await works(variant, 4, one(rule))) return true;
    return false;
  };
  return {
    ...{ variant: undefined, families: [], reasons },
    nfqueue: await some('-j NFQUEUE --queue-num 0 --queue-bypass'),
    connmark: await some('-j CONNMARK --save-mark --nfmask 0x1 --ctmask 0x1'),
  };
}

/** The chains without the jumps: harmless even in a namespace that is in use. */
function probeChains(family: Family): TableRules[] {
  return buildRules(family, probeOptions).map((table) => ({ ...table, jumps: [] }));
}

/** Returns what was said on failure, '' on success. */
async function tryRules(variant: Variant, family: Family, text: string): Promise<string> {
  const command = `${family === 4 ? 'iptables' : 'ip6tables'}-${variant}-restore`;
  const scratch = await runIn({}, 'unshare', ['--net', '--', command, '--noflush'], text);
  if (!/unshare failed|Operation not permitted/.test(scratch.stderr))
    return scratch.status === 0 ? '' : said(scratch);
  // Without SYS_ADMIN, as in a pod: chains that nothing leads to, in our own namespace, and out again.
  try {
    const before = ownRules(await save({}, family, variant));
    if (before.some(({ chains }) => chains.length > 0)) return '';
    await restore({}, family, variant, text);
    await clean({}, family, variant);
    return '';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function said(output: { readonly status: number; readonly stderr: string }): string {
  return output.stderr.trim().split('\n').pop() || `exit ${output.status}`;
}

/**
 * Puts the rules in, first in their hooks, in place of any other layout of ours.
 * `now`: what is there, if the caller has just looked.
 * Throws ERR_TCPCRYPT_NOT_ROOT, ERR_TCPCRYPT_NO_NFQUEUE, ERR_TCPCRYPT_RULES_INSTALL, ERR_TCPCRYPT_USAGE.
 */
export async function install(options: RuleOptions, where: Where = {}, now?: Snapshot): Promise<void> {
  const { variant, families, wanted } = await plan(options, where);
  const done: { family: Family; before: readonly TableRules[] }[] = [];
  try {
    for (const family of families) {
      const saved = now?.get(snapshotKey(family, variant)) ?? (await save(where, family, variant));
      if (findDifferences(family, saved, wanted(family)).length === 0) continue;
      const before = ownRules(saved);
      done.push({ family, before });
      await restore(where, family, variant, replaceText(before, wanted(family)));
    }
    for (const other of VARIANTS) {
      if (other === variant) continue;
      for (const family of families) await clean(where, family, other, now?.get(snapshotKey(family, other)));
    }
  } catch (error) {
    for (const { family, before } of done) {
      const now = ownRules(await save(where, family, variant));
      await restore(where, family, variant, replaceText(now, before)).catch(() => {});
    }
    throw failure('ERR_TCPCRYPT_RULES_INSTALL', error, where);
  }
}

/**
 * What differs from what `install` would put in; empty if nothing does. `now`: what is there, if the caller has just
 * looked. Throws as `install` does.
 */
export async function verify(options: RuleOptions, where: Where = {}, now?: Snapshot): Promise<Difference[]> {
  const { variant, families, wanted } = await plan(options, where);
  const differences: Difference[] = [];
  try {
    for (const family of families) {
      const saved = now?.get(snapshotKey(family, variant)) ?? (await save(where, family, variant));
      differences.push(...findDifferences(family, saved, wanted(family)));
    }
  } catch (error) {
    throw failure('ERR_TCPCRYPT_RULES_DIFFER', error, where);
  }
  return differences;
}

/** Throws ERR_TCPCRYPT_RULES_DIFFER with every difference in the message, or returns. */
export function assertSame(differences: readonly Difference[]): void {
  if (differences.length === 0) return;
  throw new TcpcryptError('ERR_TCPCRYPT_RULES_DIFFER', differences.map(describeDifference).join('\n'));
}

/** Takes out all that is ours, of both variants. Throws ERR_TCPCRYPT_NOT_ROOT, ERR_TCPCRYPT_RULES_REMOVE. */
export async function remove(where: Where = {}): Promise<void> {
  try {
    for (const variant of VARIANTS) {
      for (const family of [4, 6] as const) await clean(where, family, variant);
    }
  } catch (error) {
    throw failure('ERR_TCPCRYPT_RULES_REMOVE', error, where);
  }
}

async function clean(
  where: Where,
  family: Family,
  variant: Variant,
  saved?: readonly SavedTable[],
): Promise<void> {
  const text = replaceText(ownRules(saved ?? (await save(where, family, variant))), []);
  if (text === '') return;
  await restore(where, family, variant, text);
  if (variant === 'legacy') return; // The kernel keeps an empty table until the namespace ends.
  for (const { table } of (await save(where, family, variant)).filter(isEmpty)) {
    // Takes the built-in chains out of their hooks; the bare table stays until the namespace ends. If somebody has
    // put a rule in since, it fails, rightly.
    await runIn(where, family === 4 ? 'iptables-nft' : 'ip6tables-nft', ['--wait', '10', '-t', table, '-X']);
  }
}

/** A table of the two that we use in which nothing is left: it came with our rules. */
function isEmpty({ table, chains }: SavedTable): boolean {
  const untouched = chains.every(({ policy, rules }) => policy === 'ACCEPT' && rules.length === 0);
  return (table === 'raw' || table === 'mangle') && untouched;
}

async function plan(
  options: RuleOptions,
  where: Where,
): Promise<{
  variant: Variant;
  families: readonly Family[];
  wanted: (family: Family) => readonly TableRules[];
}> {
  const able = await probe();
  if (able.variant === undefined) {
    const reasons = able.reasons.join('; ');
    if (/permission denied|not permitted|must be root/i.test(reasons)) {
      throw new TcpcryptError('ERR_TCPCRYPT_NOT_ROOT', `the packet filter may not be changed: ${reasons}`);
    }
    throw new TcpcryptError('ERR_TCPCRYPT_NO_NFQUEUE', `no variant of iptables takes the rules: ${reasons}`);
  }
  const families = able.families.filter((family) => (options.families ?? [4, 6]).includes(family));
  return {
    variant: where.variant ?? able.variant,
    families,
    wanted: (family) => buildRules(family, options),
  };
}

function failure(
  code: 'ERR_TCPCRYPT_RULES_INSTALL' | 'ERR_TCPCRYPT_RULES_DIFFER' | 'ERR_TCPCRYPT_RULES_REMOVE',
  cause: unknown,
  where: Where,
): TcpcryptError {
  const message = cause instanceof Error ? cause.message : String(cause);
  const denied = /permission denied|not permitted|must be root/i.test(message);
  const place = where.netns === undefined ? 'in this network namespace' : `in ${where.netns}`;
  return new TcpcryptError(denied ? 'ERR_TCPCRYPT_NOT_ROOT' : code, `${place}: ${message}`, { cause });
}
