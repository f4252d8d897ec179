/** What one run is about, drawn from its seed: hosts, applications, path, faults, attacks, restarts. */

import type { Mode } from '../../sidecar/rewriter/types.ts';
import type { Script } from './application.ts';
import type { AttackPlan } from './attacker.ts';
import { drawDialogue } from './dialogue.ts';
import { OPEN } from './gaps.ts';
import type { Translation } from './middlebox.ts';
import type { Faults, Strip } from './path.ts';
import { Random } from './random.ts';
import type { TcpSettings } from './tcp-socket.ts';

export type HostName = 'a' | 'b';

export interface HostPlan {
  readonly tcp: TcpSettings;
  /** Whether this host has a rewriter at all. */
  readonly rewriter: boolean;
  readonly mode: Mode;
  readonly keyExchanges: readonly number[];
  readonly suites: readonly number[];
  readonly sessionCache: boolean;
  readonly rekeyAfterBytes: number;
  readonly rstCheck: boolean;
  readonly legacy: boolean;
  readonly trustKeys: readonly Uint8Array[];
  readonly authentication: 'Optional' | 'Required';
  readonly cookies: boolean;
  readonly refuseAccepts: number;
  readonly reconcileMs: number;
  /** Milliseconds between deaths of conntrack entries (a mark is forgotten); 0: never. */
  readonly conntrackDeathMs: number;
  /** Segments whose checksum is wrong reach the rewriter, as on a link without checksum offload. */
  readonly seesDamaged: boolean;
  readonly queueDelayMs: number;
  /** Segments that come at the same moment are joined before the packet filter sees them. */
  readonly gro: boolean;
}

export interface ConnectionPlan {
  readonly opener: HostName;
  /** Milliseconds after the start, or after the end of the connection before it. */
  readonly afterMs: number;
  readonly afterPrevious: boolean;
  /** The opener's port; the listener's is 80 + the label unless both are fixed for a reuse. */
  readonly sourcePort: number;
  readonly listenPort: number;
  readonly simultaneous: boolean;
  readonly openerIss: number;
  readonly openerScript: Script;
  readonly listenerScript: Script;
}

export interface Scenario {
  readonly seed: number;
  readonly family: 4 | 6;
  readonly hosts: { readonly [name in HostName]: HostPlan };
  readonly faults: { readonly ab: Faults; readonly ba: Faults };
  readonly translation: Translation;
  readonly connections: readonly ConnectionPlan[];
  readonly attack: AttackPlan | undefined;
  readonly restart: { readonly host: HostName; readonly atMs: number; readonly downMs: number } | undefined;
}

export const ADDRESSES = {
  4: { a: '10.0.0.1', b: '10.0.0.2', outside: '192.168.7.9' },
  6: { a: 'fd00::1', b: 'fd00::2', outside: 'fd00::99' },
} as const;

const X25519 = 0x000202;
const SUITES = [0x100, 0x300, 0x400, 0x500, 0x600];
/** wire.md section 2. */
export const BY_DEFAULT = [0x601, 0x600, 0x101, 0x401, 0x501, 0x100, 0x400, 0x500, 0x300];
const AGGREGATES = SUITES.map((id) => id + 1);

export function drawScenario(seed: number): Scenario {
  const random = new Random(seed);
  const family = random.chance(0.7) ? 4 : 6;
  const base = drawFaults(random);
  const translation = drawTranslation(random, family);
  const hosts = { a: drawHost(random, family), b: drawHost(random, family) };
  const trust = random.chance(0.15) ? [random.bytes(32), random.bytes(32)] : [];
  const clean = base.loss === 0 && base.strip === undefined && !base.dropsUnknownSyn;
  const scenario: Scenario = {
    seed,
    family,
    hosts: drawRoles(random, hosts, trust),
    faults: { ab: random.chance(0.9) ? base : quiet(base), ba: random.chance(0.9) ? base : quiet(base) },
    translation,
    connections: drawConnections(random, translation.nat !== undefined),
    attack: random.chance(0.12) ? drawAttack(random) : undefined,
    restart: random.chance(clean ? 0.15 : 0.05)
      ? {
          host: random.pick(['a', 'b'] as const),
          atMs: random.skewed(5, 3000),
          downMs: random.skewed(1, 3000),
        }
      : undefined,
  };
  return withinLimits(scenario, base);
}

/** What no rewriter can do anything about, and (`OPEN`) what ours does not yet. */
function withinLimits(scenario: Scenario, base: Faults): Scenario {
  const { attack, connections } = scenario;
  let { restart } = scenario;
  const reused = connections.some((each, i) => connections[i - 1]?.sourcePort === each.sourcePort);
  const strict = scenario.hosts.a.mode === 'Strict' || scenario.hosts.b.mode === 'Strict';
  // One that comes back has forgotten which INIT to keep from its kernel once the option is gone; and while it is
  // away, an attacker's SYN can make conntrack forget the connection's mark.
  if (attack !== undefined || stripsInit(base) || base.split > 0) restart = undefined;
  if ((strict && OPEN.strictAfterRestart) || (reused && OPEN.reusedWhileAway)) restart = undefined;
  const limit = (host: HostPlan): HostPlan => ({
    ...host,
    // A forged SYN that a cookie answers, and INIT1 without its option: S takes the connection for plain.
    cookies: host.cookies && !(attack !== undefined && stripsInit(base)),
  });
  return { ...scenario, restart, hosts: { a: limit(scenario.hosts.a), b: limit(scenario.hosts.b) } };
}

function stripsInit({ strip }: Faults): boolean {
  return strip !== undefined && strip.which !== 'syn';
}

function drawAttack(random: Random): AttackPlan {
  return {
    kind: random.pick(['replay', 'blind', 'on-path'] as const),
    everyMs: random.skewed(5, 300),
    count: random.between(5, 60),
  };
}

function drawHost(random: Random, family: 4 | 6): HostPlan {
  const mtu = random.pick([1500, 1500, 1420, family === 6 ? 1280 : random.between(576, 1000)]);
  return {
    tcp: {
      mtu,
      timestamps: random.chance(0.75),
      sack: random.chance(0.85),
      windowScale: random.chance(0.8) ? random.between(0, 8) : undefined,
      receiveBufferBytes: random.chance(0.2) ? random.between(300, 3000) : random.between(8_000, 65_000),
      cwndSegments: random.between(2, 20),
      superSegments: random.pick([1, 3, 16, 44]),
      delayedAckMs: random.pick([5, 40, 200]),
      keepaliveMs: random.skewed(4_000, 75_000),
      keepaliveGarbage: random.chance(0.4),
      probeWithByte: random.chance(0.3),
    },
    rewriter: true,
    mode: 'Opportunistic',
    keyExchanges: [X25519],
    suites: random.chance(0.5)
      ? BY_DEFAULT
      : [random.pick(random.chance(0.5) ? AGGREGATES : SUITES), random.pick(SUITES), 0x100],
    sessionCache: random.chance(0.8),
    rekeyAfterBytes: random.chance(0.4) ? random.skewed(300, 20_000) : 2 ** 36,
    rstCheck: random.chance(0.2),
    legacy: false,
    trustKeys: [],
    authentication: 'Optional',
    cookies: random.chance(0.08),
    refuseAccepts: random.chance(0.08) ? random.between(1, 3) : 0,
    reconcileMs: random.skewed(500, 10_000),
    conntrackDeathMs: random.chance(0.06) ? random.skewed(20, 2000) : 0,
    seesDamaged: random.chance(0.3),
    queueDelayMs: random.chance(0.3) ? random.between(1, 8) : 0,
    gro: random.chance(0.6),
  };
}

/** Now and then one side is plain, disabled, strict, or of other settings. */
function drawRoles(
  random: Random,
  hosts: { a: HostPlan; b: HostPlan },
  trust: Uint8Array[],
): Scenario['hosts'] {
  const odd = random.float();
  let { a, b } = hosts;
  const legacy = random.chance(0.06);
  a = { ...a, legacy, trustKeys: trust };
  b = { ...b, legacy, trustKeys: random.chance(0.3) ? trust.slice(1) : trust };
  if (random.chance(0.03)) a = { ...a, keyExchanges: [0x000210, X25519] };
  if (random.chance(0.03)) b = { ...b, keyExchanges: [0x000210, X25519] };
  if (random.chance(0.02)) a = { ...a, keyExchanges: [0x000200] };
  if (random.chance(0.02)) b = { ...b, keyExchanges: [0x000200, X25519] };
  if (odd < 0.05) b = { ...b, rewriter: false };
  else if (odd < 0.08) a = { ...a, rewriter: false };
  else if (odd < 0.11) b = { ...b, mode: 'Disabled' };
  else if (odd < 0.13) a = { ...a, mode: 'Disabled' };
  else if (odd < 0.16) a = { ...a, mode: 'Strict' };
  else if (odd < 0.19) b = { ...b, mode: 'Strict' };
  else if (odd < 0.21) b = { ...b, mode: 'Audit' };
  if (trust.length > 0 && random.chance(0.3)) a = { ...a, authentication: 'Required' };
  if (random.chance(0.03)) {
    if (random.chance(0.5)) a = { ...a, mode: 'Strict', rewriter: true };
    b = random.chance(0.5) ? { ...b, rewriter: false } : { ...b, mode: 'Disabled' };
  }
  if (a.refuseAccepts + b.refuseAccepts > 0) {
    // A listener that takes half a minute to accept must not lose its client to keep-alives.
    a = { ...a, tcp: { ...a.tcp, keepaliveMs: 75_000 } };
    b = { ...b, tcp: { ...b.tcp, keepaliveMs: 75_000 } };
  }
  return { a, b };
}

function quiet(faults: Faults): Faults {
  return {
    ...faults,
    loss: 0,
    duplicate: 0,
    reorder: 0,
    split: 0,
    merge: 0,
    corrupt: 0,
    damage: 0,
    strip: undefined,
    dropsUnknownSyn: false,
  };
}

function drawFaults(random: Random): Faults {
  const some = (probability: number, low: number, high: number): number =>
    random.chance(probability) ? low + random.float() * (high - low) : 0;
  const strip: Strip | undefined = random.chance(0.25)
    ? {
        which: random.pick(['syn', 'non-syn', 'non-syn', 'all'] as const),
        probability: random.pick([1, 1, 0.5, 0.1]),
        fromMs: random.chance(0.7) ? 0 : random.skewed(10, 2000),
        cut: random.chance(0.5),
      }
    : undefined;
  return {
    delayMs: random.chance(0.05) ? random.between(300, 900) : random.skewed(1, 100),
    jitterMs: random.chance(0.5) ? random.skewed(1, 60) : 0,
    loss: some(0.4, 0.005, 0.12),
    duplicate: some(0.35, 0.01, 0.15),
    reorder: some(0.35, 0.01, 0.2),
    split: some(0.15, 0.02, 0.2),
    merge: some(0.15, 0.02, 0.3),
    mergeEqualOnly: random.chance(0.4),
    corrupt: strip === undefined ? some(0.12, 0.005, 0.04) : 0,
    damage: some(0.12, 0.005, 0.05),
    strip,
    dropsUnknownSyn: strip === undefined && random.chance(0.04),
  };
}

function drawTranslation(random: Random, family: 4 | 6): Translation {
  const isn = random.chance(0.2);
  const timestamps = random.chance(0.12);
  const { a, outside } = ADDRESSES[family];
  return {
    isn: { ab: isn ? random.u32() : 0, ba: isn ? random.u32() : 0 },
    timestamps: { ab: timestamps ? random.u32() : 0, ba: timestamps ? random.u32() : 0 },
    nat: random.chance(0.15) ? { inside: a, outside, portShift: random.between(1, 500) } : undefined,
  };
}

function drawConnections(random: Random, nat: boolean): ConnectionPlan[] {
  const count = random.pick([1, 1, 2, 2, 3]);
  const reuse = random.chance(0.2);
  const simultaneous = !nat && random.chance(0.04);
  const plans: ConnectionPlan[] = [];
  let iss = random.u32();
  for (let label = 0; label < count; label++) {
    // Linux takes them from a clock, so that a 4-tuple's next one is newer; not all systems do.
    iss = reuse && random.chance(0.8) ? (iss + random.between(100_000, 50_000_000)) >>> 0 : random.u32();
    const { openerScript, listenerScript } = drawDialogue(random);
    const wraps = random.chance(0.15);
    plans.push({
      opener: nat || random.chance(0.8) ? 'a' : 'b',
      afterMs: random.skewed(1, 500),
      afterPrevious: label > 0 && (reuse || random.chance(0.6)),
      sourcePort: reuse ? 40_000 : 40_000 + label,
      listenPort: reuse ? 80 : 80 + label,
      simultaneous,
      openerIss: wraps && !reuse ? 0x100000000 - random.skewed(1, 30_000) : iss,
      openerScript,
      listenerScript,
    });
  }
  return plans;
}
