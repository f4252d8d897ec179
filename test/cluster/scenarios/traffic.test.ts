/** Ways in which traffic reaches pods. To the applications nothing is different; between injected pods it is encrypted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { captured } from '../../kernel/support/capture.ts';
import { parseMetrics, total } from '../../kernel/support/metrics.ts';
import { type Outcome, outcomeOf } from '../../kernel/support/outcome.ts';
import { ended, eventually } from '../../kernel/support/processes.ts';
import * as addresses from '../addresses.ts';
import { useChart } from '../support/chart.ts';
import { pod, WEB_SERVER } from '../support/pods.ts';
import { service, serviceAddresses } from '../support/services.ts';
import { sharedCluster as cluster, skip } from '../support/shared.ts';
import { Sidecar } from '../support/sidecar.ts';

const FAMILIES = [4, 6] as const;
const labels = { service: 'web' };
const plain = { 'tcpcrypt.io/inject': 'disabled' };
const NODE_PORT = 30080;
const OUTSIDE_PORT = 8000;
/** Documentation's own (RFC 5737): an address that is in no private range. */
const PUBLIC_ADDRESS = '203.0.113.1';
/** The TCP option by which tcpcrypt is offered: RFC 4727's experimental kind. */
const OFFER_KIND = 253;

const context = useChart('traffic-test', (namespace) =>
  namespace.start([
    pod({ name: 'client', node: 'node1' }),
    pod({ name: 'plain', node: 'node1', command: WEB_SERVER, labels: plain }),
    pod({ name: 'web1', node: 'node1', command: WEB_SERVER, labels }),
    pod({ name: 'web2', node: 'node2', command: WEB_SERVER, labels }),
    service('web', labels, { type: 'NodePort', ports: [{ port: 80, nodePort: NODE_PORT }] }),
    service('web1', { app: 'web1' }),
    service('headless', labels, { clusterIP: 'None' }),
  ]),
);

const sidecars = (...names: string[]): Sidecar[] => names.map((name) => new Sidecar(context.namespace, name));
const fetch = (from: string, host: string): string => context.namespace.fetch(from, `http://${host}/`);

/** That a client counted so many connections, and that all of them are encrypted. */
function allEncrypted({ cached: _, ...outcome }: Outcome, connections: number): void {
  assert.deepEqual(outcome, { encrypted: connections });
}

for (const [server, where] of [
  ['web1', 'on one node'],
  ['web2', 'from node to node'],
] as const)
  test(`pod to pod, ${where}, is encrypted`, { skip }, async () => {
    const { namespace } = context;
    // On one node the bridge, else the cable.
    const tap = server === 'web1' ? cluster.nodes.node1.tap('cni0') : cluster.control.tap('node1');
    for (const family of FAMILIES) {
      const host = namespace.address(server, family);
      // Without the kubelet's probes, which are plain.
      const filter = `tcp port 80 and host ${namespace.address('client', family).replace(/[[\]]/g, '')}`;
      const [{ find, dataPackets }, [answer, mine, theirs]] = await captured(tap, filter, () =>
        outcomeOf(sidecars('client', server), async () => fetch('client', host)),
      );
      assert.equal(answer, server);
      allEncrypted(mine, 1);
      assert.equal(theirs.encrypted, 1);
      assert.ok(dataPackets >= 2, `${dataPackets} packets with data`);
      for (const text of [`Host: ${host}`, `\n${server}`]) assert.equal(find(text), undefined, text);
    }
  });

test('the capture shows what is plain: a pod without a sidecar, and back', { skip }, async () => {
  const { namespace } = context;
  for (const [client, server] of [
    ['client', 'plain'],
    ['plain', 'web1'],
  ] as const) {
    const host = namespace.address(server, 4);
    const injected = sidecars(client === 'plain' ? server : client);
    const [{ find }, [answer, outcome]] = await captured(cluster.nodes.node1.tap('cni0'), 'tcp port 80', () =>
      outcomeOf(injected, async () => fetch(client, host)),
    );
    assert.equal(answer, server);
    assert.ok(find(`Host: ${host}`));
    assert.equal(outcome.encrypted, undefined);
    // The kubelet's probes are plain too.
    if (client === 'client') assert.deepEqual(outcome, { plain: 1, fallbacks: { peer_unsupported: 1 } });
    else assert.ok((outcome.fallbacks?.['peer_unsupported'] ?? 0) >= 1);
  }
});

test('a Service of two pods, by name and by both addresses', { skip }, async () => {
  const hosts = [
    'web',
    `web.${context.namespace.name}.svc.cluster.local`,
    ...serviceAddresses(context.namespace, 'web'),
  ];
  const answers = new Set<string>();
  const rounds = 8;
  const [, mine] = await outcomeOf(
    sidecars('client'),
    async () => {
      for (let i = 0; i < rounds; i++) for (const host of hosts) answers.add(fetch('client', host));
    },
    rounds * hosts.length,
  );
  // kube-proxy chooses by chance: not to meet one of two in 32 times is one in 10^9.
  assert.deepEqual([...answers].sort(), ['web1', 'web2']);
  allEncrypted(mine, rounds * hosts.length);
});

test('a headless Service', { skip }, async () => {
  const { namespace } = context;
  const { stdout } = namespace.exec('client', [
    'dig',
    '+short',
    `headless.${namespace.name}.svc.cluster.local`,
  ]);
  const found = stdout.trim().split('\n').sort();
  assert.deepEqual(found, [namespace.address('web1', 4), namespace.address('web2', 4)].sort());
  const [answer, mine] = await outcomeOf(sidecars('client'), async () => fetch('client', 'headless'));
  assert.match(answer, /^web[12]$/);
  allEncrypted(mine, 1);
});

test('a pod reaches itself: by its own address, and through its Service (hairpin)', { skip }, async () => {
  const { namespace } = context;
  for (const family of FAMILIES) assert.equal(fetch('web1', namespace.address('web1', family)), 'web1');
  for (const host of serviceAddresses(namespace, 'web1')) assert.equal(fetch('web1', host), 'web1');
});

test('NodePort: from outside through either node, and from a pod', { skip }, async () => {
  const answers = new Set<string>();
  for (const { v4, v6 } of Object.values(addresses.nodes))
    for (const host of [v4, `[${v6}]`])
      for (let i = 0; i < 4; i++) {
        const url = `http://${host}:${NODE_PORT}/`;
        answers.add(cluster.control.runInNetwork('curl', ['-sSf', '--max-time', '20', url]).stdout.trim());
      }
  assert.deepEqual([...answers].sort(), ['web1', 'web2']);
  const rounds = 6;
  const [, mine] = await outcomeOf(
    sidecars('client'),
    async () => {
      for (let i = 0; i < rounds; i++)
        assert.match(fetch('client', `${addresses.nodes.node2.v4}:${NODE_PORT}`), /^web[12]$/);
    },
    rounds,
  );
  // Through address translation, and the more so through two nodes.
  allEncrypted(mine, rounds);
});

test('pod to the outside: offered to private addresses, not to public ones', { skip }, async () => {
  const { control } = cluster;
  control.runInNetwork('ip', ['address', 'replace', `${PUBLIC_ADDRESS}/32`, 'dev', 'fabric']);
  const page = [
    '-m',
    'http.server',
    String(OUTSIDE_PORT),
    '--bind',
    '0.0.0.0',
    '--directory',
    '/usr/share/doc/curl',
  ];
  const server = control.spawnInNetwork('python3', page, { stdio: 'ignore' });
  try {
    const page = (from: string, host: string): string => fetch(from, `${host}:${OUTSIDE_PORT}`);
    const { v4 } = addresses.control;
    await eventually(
      () =>
        control.runInNetwork('curl', ['-s', `${v4}:${OUTSIDE_PORT}`], { allowFailure: true }).status === 0,
      'the server outside',
    );
    for (const [host, reason] of [
      [v4, 'peer_unsupported'],
      [PUBLIC_ADDRESS, 'policy'],
    ] as const) {
      const [{ packets }, [answer, mine]] = await captured(control.tap('node1'), `host ${host}`, () =>
        outcomeOf(sidecars('client'), async () => page('client', host)),
      );
      assert.equal(answer, page('plain', host));
      assert.deepEqual(mine, { plain: 1, fallbacks: { [reason]: 1 } });
      const offered = packets.some(({ options }) => options.some(({ kind }) => kind === OFFER_KIND));
      assert.equal(offered, reason !== 'policy', host);
    }
  } finally {
    await ended(server);
    control.runInNetwork('ip', ['address', 'del', `${PUBLIC_ADDRESS}/32`, 'dev', 'fabric']);
  }
});

test('DNS over TCP and UDP', { skip }, async () => {
  const { namespace } = context;
  const [address] = serviceAddresses(namespace, 'web');
  for (const server of addresses.dnsAddresses)
    for (const how of ['+notcp', '+tcp']) {
      const command = ['dig', '+short', how, `@${server}`, `web.${namespace.name}.svc.cluster.local`];
      assert.equal(namespace.exec('client', command).stdout.trim(), address, `${how} of ${server}`);
    }
});

test('exec, logs and port-forward', { skip }, async () => {
  const { namespace } = context;
  const input = 'x'.repeat(1_000_000);
  assert.equal(namespace.exec('client', ['wc', '-c'], { input }).stdout.trim(), String(input.length));
  assert.equal(namespace.exec('client', ['sh', '-c', 'exit 7'], { allowFailure: true }).status, 7);
  assert.match(namespace.kubectl(['logs', 'web1', '-c', 'main']).stdout, /GET \/ HTTP/);
  assert.match(namespace.kubectl(['logs', 'web1', '-c', 'tcpcrypt']).stdout, /ready/);
  const child = cluster.spawnKubectl(['-n', namespace.name, 'port-forward', 'web2', '8080:80'], {
    stdio: 'ignore',
  });
  try {
    const answer = () =>
      cluster.control.runInNetwork('curl', ['-s', 'localhost:8080'], { allowFailure: true }).stdout;
    await eventually(() => answer().trim() === 'web2', 'an answer through the forwarded port', 30_000);
  } finally {
    await ended(child);
  }
});

test('probes over HTTP, TCP and exec: a pod gets ready by them, and stays so', { skip }, async () => {
  const { namespace } = context;
  const probes = {
    startupProbe: { exec: { command: ['test', '-d', '/'] }, periodSeconds: 1 },
    readinessProbe: { httpGet: { port: 80 }, periodSeconds: 1 },
    livenessProbe: { tcpSocket: { port: 80 }, periodSeconds: 1, failureThreshold: 1 },
  };
  const probed = pod({
    name: 'probed',
    node: 'node2',
    command: ['nginx', '-g', 'daemon off;'],
    container: probes,
  });
  await namespace.start([probed]);
  // Each probe is a connection of its own.
  const [sidecar] = sidecars('probed');
  const labels = { reason: 'peer_unsupported', peer: 'node' };
  const seen = () => total(sidecar!.metrics(), 'tcpcrypt_fallbacks_total', labels);
  await eventually(() => seen() >= 6, 'six probes', 30_000);
  assert.deepEqual(
    namespace.pod('probed').status.containerStatuses?.map(({ restartCount }) => restartCount),
    [0],
  );
});

test('`tcpcrypt connections` in the sidecar lists them, as docs/install.md says', { skip }, () => {
  const { namespace } = context;
  const command = ['tcpcrypt', 'connections', '--json', '--api-socket', '/run/tcpcrypt-state/control.sock'];
  assert.ok(Array.isArray(JSON.parse(namespace.exec('client/tcpcrypt', command).stdout)));
});

test('the agents tell by namespace what the pods counted', { skip }, async () => {
  const { namespace } = context;
  const labels = { namespace: namespace.name, outcome: 'encrypted' };
  for (const { v4 } of Object.values(addresses.nodes)) {
    const metrics = () => cluster.control.runInNetwork('curl', ['-sSf', `http://${v4}:19091/metrics`]).stdout;
    const sum = () => total(parseMetrics(metrics()), 'tcpcrypt_namespace_connections_total', labels);
    await eventually(() => sum() > 0, `the sum of node ${v4}`, 30_000);
  }
});
