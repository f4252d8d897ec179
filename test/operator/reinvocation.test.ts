/** With another injector on the same API server, before us and after us, and one that makes the pod another mesh's. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { makePair } from '../../operator/certificates/pair.ts';
import { eventually } from '../kernel/support/processes.ts';
import { type Json, type Lab, podManifest, skip, startLab } from './lab.ts';

let lab: Lab;
const injectors: Injector[] = [];

before(
  async () => {
    if (skip) return;
    lab = await startLab();
    await lab.callTo(await lab.operator());
    await eventually(
      async () =>
        (await lab.get('mutatingwebhookconfiguration', 'tcpcrypt')).webhooks[0].clientConfig.caBundle,
      'the caBundle',
      20_000,
    );
    await lab.kubectl('create', 'namespace', 'shop');
  },
  { timeout: 600_000 },
);
after(async () => {
  for (const injector of injectors) {
    injector.server.close();
    injector.server.closeAllConnections();
  }
  await lab?.[Symbol.asyncDispose]();
});

interface Injector {
  readonly server: Server;
  calls: number;
}

/** A webhook that puts a container at the head of the init containers, once. Called in the order of `name`. */
async function otherInjector(name: string, container: string): Promise<Injector> {
  const { certificate, key } = await makePair(['localhost'], Date.now(), 3_600_000);
  const injector: Injector = { calls: 0, server: createServer({ cert: certificate, key }) };
  injectors.push(injector);
  injector.server.on('request', async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    injector.calls++;
    const { uid, object } = (JSON.parse(body) as Json).request;
    const list: Json[] = object.spec.initContainers ?? [];
    const there = list.some((each) => each.name === container);
    const value = [{ name: container, image: container }, ...list];
    const patch = there ? [] : [{ op: 'add', path: '/spec/initContainers', value }];
    const answer = { uid, allowed: true, patchType: 'JSONPatch', patch: btoa(JSON.stringify(patch)) };
    response.end(
      JSON.stringify({ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', response: answer }),
    );
  });
  injector.server.listen(0, '127.0.0.1');
  await once(injector.server, 'listening');
  const { port } = injector.server.address() as AddressInfo;
  await lab.create({
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name },
    webhooks: [
      {
        name: 'inject.other.example',
        clientConfig: { url: `https://localhost:${port}/`, caBundle: btoa(certificate) },
        rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['pods'] }],
        reinvocationPolicy: 'IfNeeded',
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
      },
    ],
  });
  await eventually(
    async () => (await lab.create(podManifest('probe', 'shop'), '--dry-run=server')) && injector.calls > 0,
    'the other injector called',
    15_000,
  );
  injector.calls = 0;
  return injector;
}

const stored = async (name: string): Promise<string[]> => {
  const pod = await lab.create(
    podManifest(name, 'shop', { initContainers: [{ name: 'setup', image: 'x' }] }),
  );
  return pod.spec.initContainers.map((each: Json) => each.name);
};

test('one that comes before us: ours is first all the same', { skip }, async () => {
  await otherInjector('aaa-first', 'vault');
  assert.deepEqual(await stored('before'), ['tcpcrypt', 'vault', 'setup']);
  await lab.kubectl('delete', 'mutatingwebhookconfiguration', 'aaa-first');
});

test('one that comes after us: we are called again and go back to the front', { skip }, async () => {
  const other = await otherInjector('zzz-last', 'vault');
  assert.deepEqual(await stored('after'), ['tcpcrypt', 'vault', 'setup']);
  assert.ok(other.calls >= 1);
  await lab.kubectl('delete', 'mutatingwebhookconfiguration', 'zzz-last');
});

test("another mesh's injector that comes after us: the pod is its, and nothing of ours stays", {
  skip,
}, async () => {
  await otherInjector('zzz-mesh', 'istio-init');
  const pod = await eventually(
    async () => {
      const made = await lab.create(podManifest('mesh', 'shop'), '--dry-run=server');
      return made.spec.initContainers?.some((each: Json) => each.name === 'istio-init') && made;
    },
    'the mesh',
    15_000,
  );
  assert.deepEqual(
    pod.spec.initContainers.map((each: Json) => each.name),
    ['istio-init'],
  );
  assert.equal(pod.metadata.annotations?.['tcpcrypt.io/status'], undefined);
  assert.equal(pod.spec.volumes, undefined);
});
