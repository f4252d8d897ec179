/** Middleboxes that change addresses, numbers, segment borders or contents, and attackers off the path. */

import assert from 'node:assert/strict';
import { type Path, PORT } from './support/path.ts';
import { CACHED, ENCRYPTED, plain, type Scenario, type Step, scenarios } from './support/scenario.ts';

const FORWARDED_PORT = 9000;

/** The router's address becomes the client's. */
function masquerade({ router }: Path): void {
  const rule = `POSTROUTING -o ${router.device(1)} -p tcp -j MASQUERADE --to-ports 61000-62000`;
  router.run('iptables', ['-t', 'nat', '-A', ...rule.split(' ')]);
}

/** A port of the router leads to the server. */
function forwardPort({ router, server }: Path): void {
  const from = `-p tcp -d ${router.address4(0)} --dport ${FORWARDED_PORT}`;
  const rule = `PREROUTING ${from} -j DNAT --to-destination ${server.address4()}:${PORT}`;
  router.run('iptables', ['-t', 'nat', '-A', ...rule.split(' ')]);
}

function clampMss(bytes: number): (path: Path) => void {
  return ({ router }) => {
    for (const iptables of ['iptables', 'ip6tables'])
      router.run(iptables, [
        ...['-t', 'mangle', '-A', 'FORWARD', '-p', 'tcp', '--tcp-flags', 'SYN,RST', 'SYN'],
        ...['-j', 'TCPMSS', '--set-mss', String(bytes)],
      ]);
  };
}

/**
 * In each the rules are older than any connection, as in a pod: what has no mark is the rewriter's to judge. A
 * forged SYN that comes after the end is a connection attempt like any, which the server may count as plain.
 */
const offPath = {
  kinds: ['forge'],
  worksOnPlain: ['forged'],
  steps: [{ client: { encrypted: 1 } }],
} satisfies Partial<Scenario>;

scenarios([
  {
    name: 'NAT, masquerade with other ports: encrypted, and cached under the translated address',
    prepare: masquerade,
    steps: [ENCRYPTED, CACHED],
    // The answers go to the router, at a port of its own.
    check: (_client, _server, { router }) =>
      assert.match(router.run('conntrack', ['-L', '-p', 'tcp']).stdout, /dport=61\d{3} \[ASSURED\]/),
  },
  {
    name: 'NAT, destination and port rewritten: encrypted',
    prepare: forwardPort,
    transfer: { host: '10.77.1.2', port: FORWARDED_PORT },
    steps: [ENCRYPTED, CACHED],
  },
  {
    name: 'initial sequence numbers randomised, SACK edges with them: encrypted',
    kinds: ['randomise-isn', 'loss,percent=1,after=8'],
    worksOnPlain: ['renumbered'],
    transfer: { up: 600_000, down: 600_000 },
    steps: [ENCRYPTED],
  },
  {
    name: 'IPv6: initial sequence numbers randomised: encrypted',
    kinds: ['randomise-isn'],
    worksOnPlain: ['renumbered'],
    family: 6,
    steps: [ENCRYPTED, CACHED],
  },
  {
    name: 'MSS clamped to 1380: encrypted with the hybrid exchange',
    prepare: clampMss(1380),
    steps: [{ ...ENCRYPTED, keyExchange: 'X25519MLKEM768' }],
  },
  {
    name: 'MSS clamped to 1000: encrypted with an exchange that fits one segment',
    prepare: clampMss(1000),
    steps: [{ ...ENCRYPTED, keyExchange: 'X25519' }, CACHED],
  },
  {
    name: 'segments cut into small pieces, INIT1 too: declined, plain at once',
    kinds: ['split,bytes=500'],
    worksOnPlain: ['split'],
    steps: [plain('declined', 'malformed', { within: 2500 })],
  },
  {
    name: 'small segments coalesced: encrypted, at the price of retransmissions',
    kinds: ['coalesce,bytes=1200,waitMs=4'],
    worksOnPlain: ['merged'],
    transfer: { up: 1500, down: 1500, writeBytes: 300 },
    steps: [ENCRYPTED],
  },
  ...(['IPv4', 'IPv6', 'the server speaks first'] as const).map(
    (variant): Scenario => ({
      ...offPath,
      name: `RST, SYN, DECLINE and data with wrong numbers from off the path, ${variant}: encrypted`,
      family: variant === 'IPv6' ? 6 : 4,
      greeting: variant === 'the server speaks first',
      args: ['--new-namespace'],
    }),
  ),
  {
    ...offPath,
    name: 'RST, SYN, DECLINE and data with wrong numbers from off the path, resumed connections: encrypted',
    args: ['--new-namespace'],
    // Each of TCP's timeouts doubles the one before: a lost segment costs nothing, one lost again and again a stall.
    steps: [...offPath.steps, ...Array<Step>(5).fill({ client: { encrypted: 1, cached: 1 }, within: 2000 })],
  },
  {
    ...offPath,
    name: 'the same where the rules came later than the first socket, without session cache: nothing in clear',
    policy: { sessionCache: { enabled: false } },
    steps: Array<Step>(3).fill({ client: { encrypted: 1 }, within: 2000 }),
  },
  {
    name: 'retransmissions corrected to the bytes seen first, with loss: encrypted, ciphertext never differs',
    kinds: ['correct', 'loss,percent=2,after=8'],
    transfer: { up: 200_000, down: 200_000 },
    worksOnPlain: ['lost'],
    steps: [ENCRYPTED],
  },
]);
