/** Compares the rules that should be there with those that are, rule by rule. Pure. */
import { jumpTarget, type SavedTable } from './iptables.ts';
import { CHAIN_PREFIX, type Family, type TableRules } from './rules.ts';

export interface Difference {
  readonly family: Family;
  readonly table: string;
  readonly chain: string;
  /** `order`: both are there, at another place than they should be. */
  readonly kind: 'missing' | 'unexpected' | 'order';
  /** The rule, without `-A CHAIN`; '' for the whole chain. */
  readonly rule: string;
}

export function findDifferences(
  family: Family,
  saved: readonly SavedTable[],
  wanted: readonly TableRules[],
): Difference[] {
  return wanted.flatMap(({ table, chains, jumps }) => {
    const found = saved.find((entry) => entry.table === table)?.chains ?? [];
    const at = (kind: Difference['kind'], chain: string, rule: string): Difference => {
      return { family, table, chain, kind, rule };
    };
    const differences: Difference[] = [];
    for (const { name, rules } of found) {
      if (name.startsWith(CHAIN_PREFIX)) {
        if (!chains.some((chain) => chain.name === name)) differences.push(at('unexpected', name, ''));
        continue;
      }
      const ours = rules.map(jumpTarget).filter(Boolean);
      const due = jumps.filter((jump) => jump.from === name).map((jump) => jump.to);
      for (const to of surplus(ours, due)) differences.push(at('unexpected', name, `-j ${to}`));
      for (const to of due) {
        if (ours.includes(to) && jumpTarget(rules[0]!) !== to)
          differences.push(at('order', name, `-j ${to}`));
      }
    }
    for (const { from, to } of jumps) {
      const chain = found.find(({ name }) => name === from);
      if (!chain?.rules.some((rule) => jumpTarget(rule) === to))
        differences.push(at('missing', from, `-j ${to}`));
    }
    for (const { name, rules } of chains) {
      const chain = found.find((entry) => entry.name === name);
      if (chain === undefined) {
        differences.push(at('missing', name, ''));
        continue;
      }
      const missing = surplus(rules, chain.rules);
      const unexpected = surplus(chain.rules, rules);
      differences.push(...missing.map((rule) => at('missing', name, rule)));
      differences.push(...unexpected.map((rule) => at('unexpected', name, rule)));
      if (missing.length + unexpected.length === 0) {
        const first = rules.findIndex((rule, i) => rule !== chain.rules[i]);
        if (first >= 0) differences.push(at('order', name, rules[first]!));
      }
    }
    return differences;
  });
}

/** `IPv4 mangle: missing: -A TCPCRYPT_IN …` */
export function describeDifference({ family, table, chain, kind, rule }: Difference): string {
  const what = kind === 'order' ? 'in the wrong place' : kind;
  return `IPv${family} ${table}: ${what}: ${rule === '' ? `chain ${chain}` : `-A ${chain} ${rule}`}`;
}

/** The elements of `these` that are not in `those`, counting repetitions. */
function surplus(these: readonly string[], those: readonly string[]): string[] {
  const left = [...those];
  return these.filter((item) => {
    const at = left.indexOf(item);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
}
