import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inject } from '../injection/mutation.ts';
import type { Pod } from '../injection/pod.ts';
import { injectionSettings, namespaceOf, podOf } from '../injection/testing.ts';
import { enforce, mutate } from './admission.ts';
import type { PodReview } from './review.ts';
import { contextOf } from './testing.ts';

const request = (pod: unknown, dryRun = false): PodReview => ({ uid: 'u', namespace: 'shop', dryRun, pod });
const paths = (patch: readonly { path: string }[] = []) => patch.map(({ path }) => path);

test('a pod is injected and counted; a dry run is the same without the count', async () => {
  const context = contextOf();
  const verdict = await mutate(request(podOf()), context);
  assert.deepEqual(paths(verdict.patch), ['/metadata/annotations', '/spec/initContainers', '/spec/volumes']);
  assert.deepEqual(context.counted, ['injected']);
  assert.deepEqual(await mutate(request(podOf(), true), context), verdict);
  assert.deepEqual(context.counted, ['injected']);
});

test('called again, it changes and counts nothing', async () => {
  const context = contextOf();
  const { pod } = inject(podOf(), injectionSettings);
  const verdict = await mutate(request(pod), context);
  assert.deepEqual(verdict.patch, []);
  assert.deepEqual(context.counted, []);
});

test("another mesh's injector came after us: ours goes again", async () => {
  const context = contextOf();
  const { pod } = inject(podOf(), injectionSettings);
  const proxied: Pod = {
    ...pod,
    spec: { ...pod.spec, containers: [...pod.spec.containers, { name: 'istio-proxy' }] },
  };
  const verdict = await mutate(request(proxied), context);
  assert.deepEqual(paths(verdict.patch), ['/metadata/annotations', '/spec/initContainers', '/spec/volumes']);
  assert.deepEqual(
    verdict.patch?.map(({ value }) => value),
    [{}, [], []],
  );
  assert.deepEqual(context.counted, ['left_alone other_mesh']);
});

test('left alone and excluded: allowed as it is, with the reason for audit and count', async () => {
  const context = contextOf();
  const verdict = await mutate(request(podOf({ hostNetwork: true })), context);
  assert.deepEqual(verdict, {
    allowed: true,
    patch: [],
    audit: { result: 'left_alone', reason: 'host_network' },
  });
  await mutate(request(podOf({}, { labels: { 'tcpcrypt.io/inject': 'disabled' } })), context);
  assert.deepEqual(context.counted, ['left_alone host_network', 'excluded disabled']);
});

test('suspended: the pod and its namespace are what is asked about', async () => {
  const asked: string[] = [];
  const context = contextOf({
    suspended: ({ metadata }, namespace) => {
      asked.push(`${namespace}/${metadata.name}`);
      return true;
    },
  });
  assert.equal((await mutate(request(podOf()), context)).audit['reason'], 'suspended');
  assert.deepEqual(asked, ['shop/web-1']);
});

test('a pod that is not what the API defines is let through: the API server judges it', async () => {
  const context = contextOf();
  for (const pod of [null, 1, {}, { spec: {} }, { spec: { containers: [{}] } }]) {
    assert.equal((await mutate(request(pod), context)).allowed, true);
    assert.equal((await enforce(request(pod), context)).allowed, false);
  }
});

test('enforcing: an injected pod passes, any other is refused with the reason', async () => {
  const context = contextOf();
  const { pod } = inject(podOf(), injectionSettings);
  assert.equal((await enforce(request(pod), context)).allowed, true);
  const cases: [Pod, RegExp][] = [
    [podOf(), /was not reached in time/],
    [podOf({ hostNetwork: true }), /network of its node/],
    [podOf({}, { labels: { 'tcpcrypt.io/inject': 'disabled' } }), /inject: disabled/],
  ];
  for (const [each, why] of cases) {
    const verdict = await enforce(request(each), context);
    assert.equal(verdict.allowed, false);
    assert.match(verdict.message!, /^ERR_TCPCRYPT_NOT_INJECTED: /);
    assert.match(verdict.message!, why);
  }
  const secure = contextOf({
    namespace: async () => namespaceOf({ 'pod-security.kubernetes.io/enforce': 'restricted' }),
  });
  assert.match((await enforce(request(podOf()), secure)).message!, /Pod Security level/);
});
