import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { bundleOf, endOf, isUsable, makePair, type Pairs, renewed } from './pair.ts';

const names = ['webhook.system.svc', 'webhook.system.svc.cluster.local'];
const now = Date.UTC(2026, 5, 1);
const DAY_MS = 24 * 3_600_000;
const lifetimes = { validMs: 90 * DAY_MS, renewBeforeMs: 30 * DAY_MS, settleMs: 60_000 };

test('a certificate is usable in its time, for its names, with its key', async () => {
  const pair = await makePair(names, now, lifetimes.validMs);
  assert.ok(isUsable(pair, names, now));
  assert.ok(!isUsable(pair, names, now + lifetimes.validMs), 'too late');
  assert.ok(!isUsable(pair, names, now - 3_600_000), 'too early');
  assert.ok(!isUsable(pair, ['other.system.svc'], now), 'another name');
  const other = await makePair(names, now, lifetimes.validMs);
  assert.ok(!isUsable({ ...pair, key: other.key }, names, now), "another's key");
  for (const bad of ['', 'x', '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----']) {
    assert.ok(!isUsable({ certificate: bad, key: pair.key }, names, now));
    assert.ok(!isUsable({ certificate: pair.certificate, key: bad }, names, now));
  }
  const parsed = new X509Certificate(pair.certificate);
  assert.equal(parsed.ca, false);
  assert.equal(endOf(pair), now + lifetimes.validMs);
  assert.notEqual(new X509Certificate(other.certificate).serialNumber, parsed.serialNumber);
});

test('renewal: what is shown is always trusted, and the old one goes last', async () => {
  const shown: string[] = [];
  let pairs: Pairs | undefined;
  let trustedSince: number | undefined;
  let time = now;
  /** One look of the leader's, as the keeper does it. */
  const look = async (): Promise<void> => {
    const before = pairs;
    pairs = await renewed(pairs, names, time, lifetimes, trustedSince);
    if (before !== undefined && pairs.current !== before.current) {
      assert.ok(bundleOf(before).includes(pairs.current.certificate.trim()), 'shown before it was trusted');
    }
    trustedSince = pairs.next === undefined ? undefined : (trustedSince ?? time);
    assert.ok(isUsable(pairs.current, names, time));
    if (shown.at(-1) !== pairs.current.certificate) shown.push(pairs.current.certificate);
  };
  for (; time < now + 200 * DAY_MS; time += DAY_MS / 2) await look();
  assert.equal(shown.length, 4, 'the first, and one each sixty days');
});

test('nothing happens before its time', async () => {
  const current = await makePair(names, now, lifetimes.validMs);
  const fresh = { current };
  assert.equal(await renewed(fresh, names, now + 59 * DAY_MS, lifetimes, undefined), fresh);
  const waiting = await renewed(fresh, names, now + 61 * DAY_MS, lifetimes, undefined);
  assert.equal(waiting.current, current);
  assert.ok(waiting.next);
  const soon = now + 61 * DAY_MS + 59_000;
  assert.equal(await renewed(waiting, names, soon, lifetimes, undefined), waiting, 'not trusted yet');
  assert.equal(await renewed(waiting, names, soon, lifetimes, now + 61 * DAY_MS), waiting, 'not settled yet');
  const done = await renewed(waiting, names, soon + 1000, lifetimes, now + 61 * DAY_MS);
  assert.deepEqual(done, { current: waiting.next });
});

test('what is broken, ended or for other names is replaced at once', async () => {
  const current = await makePair(names, now, lifetimes.validMs);
  const broken = { current: { ...current, key: 'x' } };
  assert.ok(isUsable((await renewed(broken, names, now, lifetimes, undefined)).current, names, now));
  const next = await makePair(names, now, lifetimes.validMs);
  const saved = await renewed({ ...broken, next }, names, now, lifetimes, undefined);
  assert.deepEqual(saved, { current: next }, 'the next one is trusted already');
  const late = await renewed({ current }, names, now + 91 * DAY_MS, lifetimes, undefined);
  assert.notEqual(late.current, current);
  const renamed = await renewed({ current }, ['new.system.svc'], now, lifetimes, undefined);
  assert.ok(isUsable(renamed.current, ['new.system.svc'], now));
});
