import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TcpcryptError } from '../../errors/catalogue.ts';
import { anyPod, podOf } from '../injection/testing.ts';
import { enforce, mutate } from './admission.ts';
import { parseReview, writeReview } from './review.ts';
import { contextOf, reviewOf } from './testing.ts';

const parsed = (value: unknown) => parseReview(JSON.stringify(value));

test('a review of the API server is read', () => {
  const pod = podOf();
  assert.deepEqual(parsed(reviewOf(pod, { dryRun: true })), {
    uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
    namespace: 'shop',
    dryRun: true,
    pod,
  });
});

test('what the API server would not send is refused', () => {
  const wrong: [string, unknown][] = [
    ['another kind', { ...reviewOf(podOf()), kind: 'Review' }],
    ['another version', { ...reviewOf(podOf()), apiVersion: 'admission.k8s.io/v1beta1' }],
    ['no request', { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview' }],
    ['no UID', reviewOf(podOf(), { uid: '' })],
    ['a long UID', reviewOf(podOf(), { uid: 'x'.repeat(65) })],
    ['an update', reviewOf(podOf(), { operation: 'UPDATE' })],
    ['no pods', reviewOf(podOf(), { resource: { group: '', version: 'v1', resource: 'secrets' } })],
    ['a namespace with a path', reviewOf(podOf(), { namespace: '../kube-system' })],
    ['no namespace', reviewOf(podOf(), { namespace: undefined })],
    ['a list', [reviewOf(podOf())]],
    ['null', null],
  ];
  for (const [what, review] of wrong) assert.throws(() => parsed(review), isBadRequest, what);
  for (const text of ['', '{', 'null', '\u0000']) assert.throws(() => parseReview(text), isBadRequest);
});

test('any JSON is a review or a bad request, and any review has an answer', async () => {
  const anyReview = fc.oneof(
    fc.jsonValue({ maxDepth: 6 }),
    fc.jsonValue({ maxDepth: 6 }).map((pod) => reviewOf(pod)),
    fc
      .tuple(anyPod, fc.jsonValue(), fc.constantFrom('metadata', 'spec'))
      .map(([pod, value, part]) => reviewOf({ ...pod, [part]: value })),
    fc
      .tuple(
        anyPod,
        fc.jsonValue(),
        fc.constantFrom(
          'containers',
          'initContainers',
          'volumes',
          'affinity',
          'os',
          'nodeSelector',
          'resources',
        ),
      )
      .map(([pod, value, field]) => reviewOf({ ...pod, spec: { ...pod.spec, [field]: value } })),
  );
  await fc.assert(
    fc.asyncProperty(anyReview, async (value) => {
      let review: ReturnType<typeof parsed>;
      try {
        review = parsed(value);
      } catch (error) {
        return isBadRequest(error);
      }
      const verdict = await mutate(review, contextOf());
      assert.equal(verdict.allowed, true);
      writeReview(review.uid, verdict);
      await enforce(review, contextOf());
      return true;
    }),
    { numRuns: 500 },
  );
});

test('a pod nested without end neither hangs nor kills', async () => {
  const deep = `${'{"spec":'.repeat(50_000)}1${'}'.repeat(50_000)}`;
  const text = JSON.stringify(reviewOf('POD')).replace('"POD"', deep);
  const verdict = await mutate(parseReview(text), contextOf());
  assert.deepEqual([verdict.allowed, verdict.patch], [true, undefined]);
});

test('the answer', () => {
  const patch = [{ op: 'add' as const, path: '/metadata/annotations', value: { a: 'b' } }];
  const warnings = ['w'.repeat(300)];
  assert.deepEqual(writeReview('u', { allowed: true, patch, warnings, audit: { result: 'injected' } }), {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    response: {
      uid: 'u',
      allowed: true,
      auditAnnotations: { result: 'injected' },
      warnings: ['w'.repeat(256)],
      patchType: 'JSONPatch',
      patch: Buffer.from(JSON.stringify(patch)).toString('base64'),
    },
  });
  const refused = writeReview('u', { allowed: false, message: 'no', audit: {} }) as {
    response: Record<string, unknown>;
  };
  assert.deepEqual(refused.response['status'], { code: 403, reason: 'Forbidden', message: 'no' });
  assert.equal(refused.response['patch'], undefined);
});

function isBadRequest(error: unknown): boolean {
  return error instanceof TcpcryptError && error.code === 'ERR_TCPCRYPT_BAD_REQUEST';
}
