/**
 * `npm run demo:cluster`: a real Kubernetes of two nodes, the chart installed with no values, and two pods that know
 * nothing of it. Their TCP is encrypted, and a capture of the cable between the nodes shows it. Needs root and Go;
 * leaves nothing behind, or the cluster with `-- --keep`.
 */
import { existsSync } from 'node:fs';
import type { ApiConnection } from '../../sidecar/runtime/api.ts';
import { Cluster, cannotRun, clusterPrograms, down, up } from '../cluster/cluster.ts';
import { baseImage, productImage, toolsImage } from '../cluster/images.ts';
import { buildPrograms } from '../cluster/programs.ts';
import { progress } from '../cluster/progress.ts';
import { installChart, RELEASE_NAMESPACE } from '../cluster/support/chart.ts';
import { fetchLetter, SECRET_BYTES, SECRET_SERVER } from '../cluster/support/fetch.ts';
import { pod, TestNamespace } from '../cluster/support/pods.ts';
import { encryptedAtBothEnds } from '../cluster/support/sidecar.ts';

const bold = (text: string): string => (process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text);
const say = (text = ''): void => void process.stdout.write(`${text}\n`);
const step = (text: string): void => say(`\n${bold(`==> ${text}`)}`);

function insist(condition: unknown, otherwise: string): asserts condition {
  if (!condition) throw new Error(otherwise);
}

function tell(mine: ApiConnection, theirs: ApiConnection): void {
  say(`    ${mine.local} -> ${mine.remote}`);
  say(`    key exchange   ${mine.keyExchange}`);
  say(`    suite          ${mine.suite}`);
  say(`    authenticated  ${mine.authenticated ? 'yes: both hold the trust-domain key' : 'no'}`);
  say(`    session ID     ${mine.sessionId}  at alice`);
  say(`                   ${theirs.sessionId}  at bob`);
  insist(
    mine.sessionId && mine.sessionId === theirs.sessionId,
    'the session IDs differ: somebody sits in between',
  );
}

async function demo(cluster: Cluster): Promise<void> {
  step('Kubernetes and Helm from their sources (minutes the first time, then cached)');
  await buildPrograms([...clusterPrograms, 'helm']);
  step('The images');
  await progress('base, of Debian packages', baseImage);
  const images: string[] = [];
  await progress('tcpcrypt', async () => void images.push(await productImage()));
  await progress('curl and nginx, for the pods', async () => void images.push(await toolsImage()));

  step('A cluster of two nodes');
  await up(cluster);
  await progress('images onto the nodes', async () => images.forEach((each) => void cluster.loadImage(each)));
  say(
    cluster.kubectl(['get', 'nodes', '-o', 'wide', '--no-headers']).stdout.replace(/^/gm, '    ').trimEnd(),
  );

  step(`helm install tcpcrypt charts/tcpcrypt -n ${RELEASE_NAMESPACE} --create-namespace`);
  await progress('operator and node agents ready', () => installChart(cluster));

  step('Two pods on two nodes; their manifests have nothing of tcpcrypt. And one that wants none');
  const namespace = new TestNamespace(cluster, 'demo');
  await namespace.start([
    pod({ name: 'alice', node: 'node1' }),
    pod({ name: 'bob', node: 'node2', command: SECRET_SERVER }),
    pod({ name: 'eve', node: 'node1', labels: { 'tcpcrypt.io/inject': 'disabled' } }),
  ]);
  say(
    namespace.kubectl(['get', 'pods', '-o', 'wide', '--no-headers']).stdout.replace(/^/gm, '    ').trimEnd(),
  );

  step('alice fetches a letter from bob');
  const encrypted = await fetchLetter(
    namespace,
    { client: 'alice', server: 'bob', node: 'node1' },
    async () => tell(...(await encryptedAtBothEnds(namespace, 'alice', 'bob', 80))),
  );
  say(`    received, ${SECRET_BYTES} bytes`);
  insist(encrypted.dataPackets > 100, 'the capture holds too little');
  for (const secret of ['treasure', 'GET /letter'])
    insist(!encrypted.find(secret), `'${secret}' was on the cable between the nodes in clear`);
  say(
    `    ${encrypted.dataPackets} packets with data between the nodes; 'treasure', 'GET /letter' in none of them`,
  );

  step('eve, without a sidecar, fetches it too: nothing breaks, nothing is hidden');
  const plain = await fetchLetter(namespace, { client: 'eve', server: 'bob', node: 'node1' });
  insist(plain.find('treasure'), 'the capture does not show what is in clear');
  say(`    'treasure' is in the capture`);
}

const unable = cannotRun();
if (unable) {
  process.stderr.write(`demo:cluster: ${unable}\n`);
  process.exit(1);
}
const cluster = new Cluster(process.env['TCPCRYPT_CLUSTER'] || 'demo');
try {
  await demo(cluster);
  say(`\n${bold('The demo went as it should.')}`);
} catch (error) {
  process.stderr.write(`\nThe demo failed: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
if (process.argv.includes('--keep')) {
  say(`The cluster is there still: TCPCRYPT_CLUSTER=${cluster.name} npm run cluster -- status`);
} else if (existsSync(cluster.folder)) {
  await down(cluster);
}
