/** Scenarios for tests that want one thing at a time: two willing hosts, a clean path, plain dialogues. */

import type { Script } from './application.ts';
import type { Faults } from './path.ts';
import { Random } from './random.ts';
import { BY_DEFAULT, type ConnectionPlan, type HostPlan, type Scenario } from './scenario.ts';

const script = (...steps: readonly { after: number; bytes: number }[]): Script => ({
  steps: steps.map((step) => ({ ...step, delayMs: 0, urgent: false })),
  end: 'close',
  slowRead: undefined,
});

/** The client sends 2,000 bytes, the server answers with 6,000. */
export const CLIENT_FIRST = {
  openerScript: script({ after: 0, bytes: 2000 }),
  listenerScript: script({ after: 2000, bytes: 6000 }),
};

/** The server greets with 100 bytes, the client answers with 50. */
export const SERVER_FIRST = {
  openerScript: script({ after: 100, bytes: 50 }),
  listenerScript: script({ after: 0, bytes: 100 }),
};

const FAULTS: Faults = {
  delayMs: 20,
  jitterMs: 0,
  loss: 0,
  duplicate: 0,
  reorder: 0,
  split: 0,
  merge: 0,
  mergeEqualOnly: true,
  corrupt: 0,
  damage: 0,
  strip: undefined,
  dropsUnknownSyn: false,
};

const HOST: Omit<HostPlan, 'tcp'> = {
  rewriter: true,
  mode: 'Opportunistic',
  keyExchanges: [0x202],
  suites: [0x600],
  sessionCache: true,
  rekeyAfterBytes: 2 ** 36,
  rstCheck: false,
  legacy: false,
  trustKeys: [],
  authentication: 'Optional',
  cookies: false,
  refuseAccepts: 0,
  reconcileMs: 5000,
  conntrackDeathMs: 0,
  seesDamaged: false,
  queueDelayMs: 0,
  gro: false,
};

const TCP: HostPlan['tcp'] = {
  mtu: 1500,
  timestamps: true,
  sack: true,
  windowScale: 7,
  receiveBufferBytes: 60_000,
  cwndSegments: 10,
  superSegments: 1,
  delayedAckMs: 40,
  keepaliveMs: 75_000,
  keepaliveGarbage: false,
  probeWithByte: false,
};

export function connectionPlan(label: number, dialogue: typeof CLIENT_FIRST): ConnectionPlan {
  return {
    opener: 'a',
    afterMs: 10,
    afterPrevious: label > 0,
    sourcePort: 40_000 + label,
    listenPort: 80 + label,
    simultaneous: false,
    openerIss: 1000 + label,
    ...dialogue,
  };
}

/**
 * `scenario` with aggregate suites, hosts with offloads, and streams of many segments each way. A blind attacker has
 * other scenarios: resumed connections do not hold against one yet (its test in sidecar/rewriter says so).
 */
export function bulk(scenario: Scenario): Scenario {
  const random = new Random(scenario.seed ^ 0xb01c);
  const host = (plan: HostPlan): HostPlan => ({
    ...plan,
    suites: random.chance(0.9) ? BY_DEFAULT : [0x401, 0x501, 0x300],
    gro: random.chance(0.7),
    tcp: {
      ...plan.tcp,
      superSegments: random.pick([2, 5, 44]),
      cwndSegments: random.between(10, 45),
      receiveBufferBytes: 65_000,
    },
  });
  const stream = (): Script => {
    const steps = Array.from({ length: random.between(1, 4) }, () => ({
      after: 0,
      bytes: random.between(1, 30_000),
    }));
    return { ...script(...steps), slowRead: random.chance(0.1) ? { everyMs: 20, chunk: 5000 } : undefined };
  };
  return {
    ...scenario,
    attack: scenario.attack?.kind === 'blind' ? undefined : scenario.attack,
    hosts: { a: host(scenario.hosts.a), b: host(scenario.hosts.b) },
    connections: scenario.connections.map((plan) => ({
      ...plan,
      openerScript: stream(),
      listenerScript: random.chance(0.3) ? stream() : script({ after: 1, bytes: random.between(1, 3000) }),
    })),
  };
}

/** `scenario` without its faults: two connections, one after the other, over a path of 20 ms each way. */
export function calm(scenario: Scenario, dialogue = CLIENT_FIRST): Scenario {
  const host: HostPlan = { ...HOST, tcp: TCP };
  return {
    seed: scenario.seed,
    family: scenario.family,
    hosts: { a: host, b: host },
    faults: { ab: FAULTS, ba: FAULTS },
    translation: { isn: { ab: 0, ba: 0 }, timestamps: { ab: 0, ba: 0 }, nat: undefined },
    connections: [connectionPlan(0, dialogue), connectionPlan(1, dialogue)],
    attack: undefined,
    restart: undefined,
  };
}
