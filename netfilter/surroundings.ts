/** What other software has put into a namespace, as far as it matters to our rules. Reads iptables' rules only. */
import { type SavedTable, type Snapshot, snapshot, type Where } from './iptables.ts';
import { CHAIN_PREFIX } from './rules.ts';

export type OtherMesh = 'istio' | 'linkerd';

export interface Surroundings {
  /** Somebody translates addresses or redirects here. */
  readonly hasNat: boolean;
  /** Another mesh's redirection: the pod is left alone (reason `other_mesh`). */
  readonly otherMesh: OtherMesh | undefined;
  /** Nothing needs conntrack for other protocols than TCP: no translation, no rule that looks at its state. */
  readonly mayUntrack: boolean;
}

const meshChains: readonly (readonly [RegExp, OtherMesh])[] = [
  [/^ISTIO_/, 'istio'],
  [/^PROXY_INIT_/, 'linkerd'],
];
/** Matches and targets of xtables that read or need a conntrack entry. */
const needsTracking =
  /-m (conntrack|state|connmark|connlimit|connbytes|connlabel|helper|cluster)\b|-j (CONNMARK|CT|CONNSECMARK)\b/;

/** `now`: what is there, if the caller has just looked. */
export async function surroundings(where: Where = {}, now?: Snapshot): Promise<Surroundings> {
  return judge([...(now ?? (await snapshot(where))).values()].flat());
}

/** Pure part of `surroundings`. */
export function judge(saved: readonly SavedTable[]): Surroundings {
  const chains = saved.flatMap(({ table, chains }) => chains.map((chain) => ({ ...chain, table })));
  const others = chains.filter(({ name }) => !name.startsWith(CHAIN_PREFIX));
  const hasNat = others.some(({ table, rules }) => table === 'nat' && rules.length > 0);
  const otherMesh = others
    .map(({ name }) => meshChains.find(([pattern]) => pattern.test(name))?.[1])
    .find((mesh) => mesh !== undefined);
  const tracking = others.some(({ rules }) => rules.some((rule) => needsTracking.test(rule)));
  return { hasNat, otherMesh, mayUntrack: !hasNat && !tracking };
}
