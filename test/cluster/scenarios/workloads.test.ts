/** What users run: Deployments, Jobs, init containers, many pods at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { captured } from '../../kernel/support/capture.ts';
import { total } from '../../kernel/support/metrics.ts';
import { outcomeOf } from '../../kernel/support/outcome.ts';
import { ended, eventually, finished } from '../../kernel/support/processes.ts';
import { useChart } from '../support/chart.ts';
import { assertSecret, SECRET, SECRET_BYTES, SECRET_SERVER, secretHash } from '../support/fetch.ts';
import { pod, type TestNamespace, WEB_SERVER } from '../support/pods.ts';
import { deployment, job, service } from '../support/services.ts';
import { sharedCluster as cluster, skip } from '../support/shared.ts';
import { Sidecar } from '../support/sidecar.ts';

/** A sidecar has about 40 MB for itself, and shares as much with the others of its node. */
const MANY = 50;
const JOB_BYTES = 50_000_000;

const context = useChart('workloads-test', (namespace) =>
  namespace.start([
    pod({ name: 'client', node: 'node1' }),
    pod({ name: 'server', node: 'node2', command: SECRET_SERVER }),
    service('server', { app: 'server' }),
  ]),
);

test('a rolling update under load: no request fails', { skip }, async (t) => {
  const { namespace } = context;
  const web = deployment({
    name: 'rolling',
    replicas: 3,
    command: WEB_SERVER,
    strategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
    // As anywhere: a pod serves on until nobody is sent to it any more.
    container: {
      readinessProbe: { httpGet: { port: 80 }, periodSeconds: 1 },
      lifecycle: { preStop: { exec: { command: ['sh', '-c', 'sleep 3; nginx -s quit; sleep 1'] } } },
    },
    spec: { terminationGracePeriodSeconds: 30 },
  });
  await namespace.start([web, service('rolling', { app: 'rolling' })]);
  namespace.rolledOut('rolling');
  const [, outcome] = await outcomeOf([new Sidecar(namespace, 'client')], async () => {
    const requests = `while [ ! -e /tmp/enough ]; do
      curl -sSf --max-time 10 http://rolling/ >>/tmp/answers 2>>/tmp/failures || echo failed >>/tmp/failures; done`;
    const child = cluster.spawnKubectl(['-n', namespace.name, 'exec', 'client', '--', 'sh', '-c', requests]);
    const done = finished(child, 300_000);
    try {
      await eventually(
        () => namespace.exec('client', ['cat', '/tmp/answers'], { allowFailure: true }).stdout !== '',
        'an answer',
      );
      namespace.kubectl(['rollout', 'restart', 'deployment/rolling']);
      namespace.rolledOut('rolling');
      namespace.exec('client', ['touch', '/tmp/enough']);
      await done;
    } finally {
      await ended(child, 'SIGKILL');
    }
  });
  const read = (file: string): string => namespace.exec('client', ['sh', '-c', `cat ${file} || true`]).stdout;
  assert.equal(read('/tmp/failures'), '');
  const answers = read('/tmp/answers').trim().split('\n');
  assert.equal(new Set(answers).size > 3, true, 'answers of old and new pods');
  // On a machine that is too slow for a new pod's sidecar some may be plain; none is lost.
  const { encrypted = 0, plain = 0 } = outcome;
  assert.equal(encrypted + plain, answers.length, JSON.stringify(outcome));
  assert.ok(encrypted > answers.length / 2, JSON.stringify(outcome));
  t.diagnostic(`${answers.length} requests, ${plain} plain, answered by ${new Set(answers).size} pods`);
  namespace.kubectl(['delete', 'deployment', 'rolling', '--wait=false']);
});

test('a Job that talks to a Service completes, and what it said was encrypted', { skip }, async () => {
  const { namespace } = context;
  const fetch = job({
    name: 'fetch',
    command: ['curl', '-sSf', '-o', '/dev/null', 'http://server/letter.txt'],
    spec: { nodeName: 'node1' },
  });
  const [packets] = await captured(cluster.control.tap('node1'), 'tcp port 80', async () => {
    await namespace.start([fetch]);
    namespace.completed('fetch');
  });
  assertSecret(packets);
});

test('a Job writes 50 MB to a slow reader and exits: all of it arrives', { skip }, async () => {
  const { namespace } = context;
  const script = `nc -l 9000 | while head -c 2000000 >/tmp/chunk && [ -s /tmp/chunk ]; do
    cat /tmp/chunk; sleep 0.2; done | sha256sum >/tmp/sum; mv /tmp/sum /tmp/done; exec sleep infinity`;
  await namespace.start([pod({ name: 'reader', node: 'node2', command: ['sh', '-c', script] })]);
  const write = `exec 3<>/dev/tcp/${namespace.address('reader', 4)}/9000; yes '${SECRET}' | head -c ${JOB_BYTES} >&3`;
  const [packets] = await captured(cluster.control.tap('node1'), 'tcp port 9000', async () => {
    await namespace.start([
      job({
        name: 'write',
        command: ['bash', '-c', write],
        spec: { nodeName: 'node1', terminationGracePeriodSeconds: 30 },
      }),
    ]);
    namespace.completed('write');
    await eventually(
      () => namespace.exec('reader', ['test', '-e', '/tmp/done'], { allowFailure: true }).status === 0,
      'the end of the stream',
      60_000,
    );
  });
  assert.equal(namespace.exec('reader', ['cat', '/tmp/done']).stdout.split(' ')[0], secretHash(JOB_BYTES));
  assertSecret(packets);
});

test('init containers: what they say before the application starts is encrypted', { skip }, async () => {
  const { namespace } = context;
  const init = {
    name: 'init',
    image: 'localhost/tcpcrypt-test-tools:1',
    imagePullPolicy: 'Never',
    command: ['sh', '-c', 'curl -sSf http://server/letter.txt | wc -c >/shared/bytes'],
    volumeMounts: [{ name: 'shared', mountPath: '/shared' }],
  };
  const withInit = pod({
    name: 'with-init',
    node: 'node1',
    container: { volumeMounts: [{ name: 'shared', mountPath: '/shared' }] },
    spec: { initContainers: [init], volumes: [{ name: 'shared', emptyDir: {} }] },
  });
  const [packets] = await captured(cluster.control.tap('node1'), 'tcp port 80', () =>
    namespace.start([withInit]),
  );
  assert.equal(namespace.exec('with-init', ['cat', '/shared/bytes']).stdout.trim(), String(SECRET_BYTES));
  assertSecret(packets);
  assert.equal(counted(new Sidecar(namespace, 'with-init'), { outcome: 'encrypted' }), 1);
});

test(`${MANY} pods started at once: all get ready, no request fails, and the next is encrypted`, {
  skip,
}, async (t) => {
  const { namespace } = context;
  const began = performance.now();
  const fetch = `while curl -sSf -o /tmp/page http://server/; do touch /tmp/ready; sleep 5; done; exit 1`;
  const many = deployment({
    name: 'many',
    replicas: MANY,
    command: ['sh', '-c', fetch],
    // Asked until it has come up, and no more: each such question starts a process.
    container: {
      startupProbe: {
        exec: { command: ['test', '-e', '/tmp/ready'] },
        periodSeconds: 3,
        failureThreshold: 100,
      },
    },
  });
  await namespace.start([many]);
  namespace.rolledOut('many', 300);
  t.diagnostic(`${MANY} pods ready after ${((performance.now() - began) / 1000).toFixed(0)} s`);
  const sidecars = namespace.podNames('many').map((name) => new Sidecar(namespace, name));
  assert.equal(sidecars.length, MANY);
  // What an application says before its sidecar has come up, or while the machine is too slow for a handshake, is
  // plain and counted: so much may start at once that not all of it is encrypted. Nothing of it fails.
  for (const sidecar of sidecars)
    await eventually(() => sidecar.answers(), 'a sidecar that answers', 120_000);
  const encrypted = sidecars.filter((sidecar) => counted(sidecar, { outcome: 'encrypted' }) > 0).length;
  t.diagnostic(`${encrypted} of them have had an encrypted connection by then`);
  // Nobody's request failed meanwhile: it would have ended.
  const restarts = namespace
    .podNames('many')
    .map((name) => namespace.pod(name).status.containerStatuses?.[0]?.restartCount);
  assert.deepEqual(new Set(restarts), new Set([0]));
  namespace.kubectl(['delete', 'deployment', 'many', '--wait=false']);
  await eventually(() => namespace.podNames('many').length === 0, 'the end of them', 120_000);
  // While the machine still removes them, the API server may not wait for the webhook.
  let next = '';
  for (let i = 0; i < 5 && !isInjected(namespace, next); i++) {
    next = `after-all-${i}`;
    await namespace.start([pod({ name: next, node: 'node1' })]);
  }
  const [, outcome] = await outcomeOf([new Sidecar(namespace, next)], async () =>
    namespace.fetch(next, 'http://server/'),
  );
  assert.deepEqual(outcome, { encrypted: 1 });
});

const isInjected = (namespace: TestNamespace, name: string): boolean =>
  name !== '' && namespace.pod(name).spec.initContainers?.some((each) => each.name === 'tcpcrypt') === true;

const counted = (sidecar: Sidecar, labels: Readonly<Record<string, string>>): number =>
  total(sidecar.metrics(), 'tcpcrypt_connections_total', labels);
