import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  afterCreation,
  afterRefusal,
  isRefusal,
  isSuspended,
  readSuspensions,
  type Suspensions,
  withoutEnded,
  writeSuspensions,
} from './suspension.ts';
import { podOf } from './testing.ts';

const HOUR_MS = 3_600_000;
const now = Date.UTC(2026, 0, 1);
const refused = (owner: string, atMs: number, entries: Suspensions = {}) =>
  afterRefusal(
    entries,
    { namespace: 'shop', owner, message: 'is forbidden: exceeded quota', atMs },
    atMs,
    HOUR_MS,
  );
const created = (entries: Suspensions, owner: string, atMs: number) =>
  afterCreation(entries, { namespace: 'shop', owner, createdMs: atMs }, atMs, HOUR_MS);
const podBy = (uid: string) =>
  podOf({}, { ownerReferences: [{ kind: 'ReplicaSet', name: 'web', uid, controller: true }] });
const suspended = (entries: Suspensions, owner: string, atMs: number) =>
  isSuspended(entries, podBy(owner), 'shop', atMs);

test('refused with our container, accepted without: injection stops in the namespace, and is tried again', () => {
  const trial = refused('a', now);
  assert.ok(suspended(trial, 'a', now + 1), "the owner's next pod goes without");
  assert.ok(!suspended(trial, 'b', now + 1), 'nobody else does');
  const stopped = created(trial, 'a', now + 5000);
  assert.ok(suspended(stopped, 'b', now + 6000));
  assert.ok(!isSuspended(stopped, podBy('a'), 'other', now + 6000));
  assert.equal(refused('b', now + 7000, stopped), stopped);
  assert.ok(!suspended(stopped, 'b', now + 5000 + HOUR_MS));
  assert.deepEqual(
    withoutEnded(stopped, now + 5000 + HOUR_MS, () => true),
    {},
  );
});

test('refused without our container as well: it is not ours, and injection goes on', () => {
  const trial = refused('a', now);
  assert.equal(refused('a', now + 1000, trial), trial, 'that one may have been under way');
  const cleared = refused('a', now + 5000, trial);
  assert.ok(!suspended(cleared, 'a', now + 5001));
  assert.equal(refused('a', now + 9000, cleared), cleared, 'not tried again for a while');
  assert.ok(suspended(refused('b', now + 9000, cleared), 'b', now + 9001), "another owner's is");
});

test('a pod from before the trial, or of another owner, proves nothing', () => {
  const trial = refused('a', now);
  assert.equal(created(trial, 'a', now - 2000), trial);
  assert.equal(created(trial, 'b', now + 5000), trial);
  assert.equal(created({}, 'a', now)['shop'], undefined);
});

test('a trial that nothing comes of ends by itself', () => {
  const trial = refused('a', now);
  assert.equal(
    withoutEnded(trial, now + 1000, () => true),
    trial,
  );
  assert.ok(!suspended(trial, 'a', now + HOUR_MS));
  assert.deepEqual(
    withoutEnded(trial, now + HOUR_MS, () => true),
    {},
  );
});

test('it ends with its namespace: another of the same name is not meant', () => {
  const entries = { ...refused('a', now), other: refused('a', now)['shop']! };
  const left = withoutEnded(entries, now, (namespace) => namespace !== 'shop');
  assert.deepEqual(Object.keys(left), ['other']);
});

test('what counts as a refusal', () => {
  const refusals = [
    'Error creating: pods "web-" is forbidden: exceeded quota: q, requested: requests.cpu=110m, used: requests.cpu=0, limited: requests.cpu=100m',
    'Error creating: pods "web-" is forbidden: violates PodSecurity "baseline:latest"',
    'Error creating: admission webhook "validate.kyverno.svc-fail" denied the request: NET_ADMIN',
    'Pod "web" is invalid: spec.initContainers[0].resources.requests: Invalid value',
  ];
  for (const message of refusals) assert.ok(isRefusal(message), message);
  const others = [
    'Error creating: Internal error occurred: failed calling webhook "x": context deadline exceeded',
    'Error creating: Post "https://10.0.0.1": dial tcp: connect: connection refused',
    'Error creating: pods "web-" is forbidden: unable to create new content in namespace x because it is being terminated',
    'Error creating: Timeout: request did not complete within requested timeout',
  ];
  for (const message of others) assert.ok(!isRefusal(message), message);
});

test('the ConfigMap: what is written is read, what is not ours is left out', () => {
  const entries = refused('a', now);
  assert.deepEqual(readSuspensions(writeSuspensions(entries)), entries);
  assert.deepEqual(readSuspensions({ a: '{', b: '{"phase":"x"}', c: 'null', d: '[]' }), {});
  assert.deepEqual(readSuspensions(undefined), {});
});

test('there is room for so many and no more', () => {
  const many = Object.fromEntries(
    Array.from({ length: 1000 }, (_, i) => [`n${i}`, refused('a', now)['shop']!] as const),
  );
  assert.equal(refused('a', now, many), many);
});
