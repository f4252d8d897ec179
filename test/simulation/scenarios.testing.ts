/** Scenarios for tests that want one thing at a time: two willing hosts, a clean path, plain dialogues. */

import type { Script } from './application.ts';
import type { Faults } from './path.ts';
import type { ConnectionPlan, HostPlan, Scenario } from './scenario.ts';

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
};

const TCP: HostPlan['tcp'] = {
  mtu: 1500,
  timestamps: true,
  sack: true,
  windowScale: 7,
  receiveBufferBytes: 60_000,
  cwndSegments: 10,
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
