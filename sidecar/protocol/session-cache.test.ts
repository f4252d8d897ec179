import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { nextSecret, sessionId } from './key-schedule.ts';
import {
  type CachedSession,
  CHAINS_PER_DESTINATION,
  CHAINS_PER_SOURCE,
  COMING,
  type SessionAttributes,
  SessionCache,
} from './session-cache.ts';

const HOUR = 3_600_000;
const limits = { enabled: true, maxEntries: 100, lifetimeMs: HOUR };
const asC: SessionAttributes = {
  role: 'C',
  keyExchange: 0x210,
  suite: 0x600,
  authenticated: false,
  keyId: undefined,
  peerAppSupport: false,
};
const asS: SessionAttributes = { ...asC, role: 'S' };

/** ss[0] of the n-th full handshake. */
const first = (n: number): Uint8Array => new Uint8Array(createHash('sha256').update(`ss ${n}`).digest());
const secretAt = (ss0: Uint8Array, index: number): Uint8Array => {
  let ss = ss0;
  for (let i = 0; i < index; i++) ss = nextSecret(ss);
  return ss;
};
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const sid9 = (ss0: Uint8Array, index: number): Uint8Array => sessionId(secretAt(ss0, index)).subarray(0, 9);

/** What the cache keeps, to see what it forgets. */
interface Inside {
  readonly chains: Set<{ readonly secrets: Uint8Array; readonly keys: (string | undefined)[] }>;
  readonly byPeer: Map<string, unknown[]>;
  readonly bySid: Map<string, unknown>;
}
const inside = (cache: SessionCache): Inside => cache as unknown as Inside;

const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

function assertConsistent(cache: SessionCache, maxEntries: number): void {
  const { chains, byPeer, bySid } = inside(cache);
  assert.ok(cache.size <= maxEntries);
  assert.equal(chains.size, cache.size);
  assert.equal(
    [...byPeer.values()].reduce((sum, list) => sum + list.length, 0),
    cache.size,
  );
  assert.ok([...byPeer.values()].every((list) => list.length > 0));
  let keys = 0;
  for (const chain of chains) {
    chain.keys.forEach((key, slot) => {
      const secret = chain.secrets.subarray(slot * 32, slot * 32 + 32);
      assert.equal(
        isZero(secret),
        key === undefined,
        'a secret is there exactly as long as it can be served',
      );
      if (key !== undefined) {
        keys++;
        assert.equal(bySid.get(key), chain);
      }
    });
    assert.ok(chain.secrets.length === 2 * COMING * 32);
  }
  assert.equal(bySid.size, keys);
}

test('a chain goes on from ss[i+1], and both ends have the same secret for the same SID', () => {
  const a = new SessionCache(limits);
  const b = new SessionCache(limits);
  const ss0 = first(0);
  a.add('b', ss0, 0, asC, 0);
  b.add('a', ss0, 0, asS, 0);
  assert.equal(hex(ss0), hex(first(0)), 'ss[0] is the caller’s to erase');
  for (let i = 1; i <= 40; i++) {
    const [opener, acceptor, peer] = i % 3 === 0 ? [b, a, 'a'] : [a, b, 'b'];
    const taken = opener.take(peer, 0)!;
    const accepted = acceptor.accept(taken.sid.subarray(0, 9), 0)!;
    assert.equal(taken.index, i);
    assert.equal(hex(taken.secret), hex(secretAt(ss0, i)));
    assert.equal(hex(taken.sid), hex(sessionId(secretAt(ss0, i))));
    assert.deepEqual({ ...accepted, chain: 0, attributes: 0 }, { ...taken, chain: 0, attributes: 0 });
    assert.equal((i % 3 === 0 ? accepted : taken).attributes, asC);
  }
});

test('a chain may begin at any index', () => {
  const cache = new SessionCache(limits);
  const ss0 = first(0);
  cache.add('b', secretAt(ss0, 21), 21, asC, 0);
  assert.equal(hex(cache.accept(sid9(ss0, 24), 0)!.secret), hex(secretAt(ss0, 24)));
  const next = cache.take('b', 0)!;
  assert.equal(next.index, 22);
  assert.equal(hex(next.secret), hex(secretAt(ss0, 22)));
});

test('wire.md 3: parallel opens arrive in any order, within a window', () => {
  const cache = new SessionCache(limits);
  const ss0 = first(0);
  cache.add('a', ss0, 0, asS, 0);
  assert.equal(cache.accept(sid9(ss0, 0), 0), undefined, 'ss[0] was used');
  assert.equal(cache.accept(sid9(ss0, COMING + 1), 0), undefined, 'too far ahead');
  assert.equal(cache.accept(sid9(ss0, 3), 0)?.index, 3);
  assert.equal(cache.accept(sid9(ss0, COMING + 3), 0)?.index, COMING + 3, 'the window moves');
  assert.equal(cache.accept(sid9(ss0, 3), 0), undefined, 'once only');
  assert.equal(cache.accept(sid9(ss0, 4), 0)?.index, 4, 'skipped, still acceptable');
  assert.equal(cache.take('a', 0)?.index, 5, 'the lowest unused');
  assert.equal(cache.accept(sid9(ss0, 5), 0), undefined, 'having sent NEXTK1 counts as use');
  assert.equal(cache.accept(sid9(ss0, 2), 0), undefined, 'fell out of the ring');
  assertConsistent(cache, 100);
});

test('what is served is erased in the cache and independent of it', () => {
  const cache = new SessionCache(limits);
  cache.add('b', first(0), 0, asC, 0);
  const taken = cache.take('b', 0)!;
  assertConsistent(cache, 100);
  taken.secret.fill(0xff);
  assertConsistent(cache, 100);
  assert.equal(hex(cache.take('b', 0)!.secret), hex(secretAt(first(0), 2)));
});

test('the newest chain first; a few for each destination, more for each source', () => {
  const cache = new SessionCache(limits);
  for (let n = 0; n < 10; n++) cache.add('svc', first(n), 0, asC, 0);
  assert.equal(cache.size, CHAINS_PER_DESTINATION);
  const taken = cache.take('svc', 0)!;
  assert.equal(hex(taken.secret), hex(secretAt(first(9), 1)));
  cache.drop(taken.chain);
  assert.equal(hex(cache.take('svc', 0)!.secret), hex(secretAt(first(8), 1)));
  for (let n = 10; n < 60; n++) cache.add('svc', first(n), 0, asS, 0);
  assert.equal(cache.size, CHAINS_PER_DESTINATION - 1 + CHAINS_PER_SOURCE);
  assert.ok(cache.accept(sid9(first(8), 2), 0), 'chains we opened are not pushed out by others');
  assertConsistent(cache, 100);
});

test('over maxEntries the least recently used chain goes', () => {
  const cache = new SessionCache({ ...limits, maxEntries: 3 });
  for (let n = 0; n < 3; n++) cache.add(`p${n}`, first(n), 0, asC, 0);
  assert.ok(cache.take('p0', 0));
  cache.add('p3', first(3), 0, asC, 0);
  assert.equal(cache.take('p1', 0), undefined);
  assert.ok(cache.take('p0', 0));
  cache.setLimits({ ...limits, maxEntries: 1 });
  assert.equal(cache.size, 1);
  assert.ok(cache.take('p0', 0));
  assertConsistent(cache, 1);
});

test('lifetime counts from the full handshake', () => {
  const cache = new SessionCache(limits);
  cache.add('b', first(0), 0, asC, 1_000);
  cache.add('b', first(1), 0, asC, 5_000);
  assert.ok(cache.take('b', 1_000 + HOUR));
  assert.equal(cache.accept(sid9(first(0), 1), 1_000 + HOUR), undefined);
  assert.equal(cache.size, 1);
  assert.equal(cache.take('b', 5_000 + HOUR), undefined);
  assert.equal(cache.size, 0);
  cache.add('b', first(2), 0, asC, 0);
  cache.add('b', first(3), 0, asC, 1);
  cache.sweep(HOUR);
  assert.equal(cache.size, 1);
  assertConsistent(cache, 100);
});

test('off: nothing is kept, and what was is erased', () => {
  const cache = new SessionCache(limits);
  cache.add('b', first(0), 0, asC, 0);
  const { secrets } = [...inside(cache).chains][0];
  cache.setLimits({ ...limits, enabled: false });
  assert.ok(isZero(secrets));
  const handle = cache.add('b', first(1), 0, asC, 0);
  cache.drop(handle);
  assert.equal(cache.size, 0);
  assert.equal(cache.take('b', 0), undefined);
  assert.equal(cache.accept(sid9(first(1), 1), 0), undefined);
});

test('withdraw takes the chains that the key authenticated, and no other', () => {
  const cache = new SessionCache(limits);
  cache.add('b', first(0), 0, { ...asC, authenticated: true, keyId: 'aa' }, 0);
  cache.add('c', first(1), 0, { ...asC, authenticated: true, keyId: 'bb' }, 0);
  cache.add('d', first(2), 0, asC, 0);
  cache.withdraw('aa');
  assert.equal(cache.take('b', 0), undefined);
  assert.ok(cache.take('c', 0));
  assert.ok(cache.take('d', 0));
});

test('an unknown, short or long SID is a miss', () => {
  const cache = new SessionCache(limits);
  cache.add('b', first(0), 0, asC, 0);
  assert.equal(cache.accept(new Uint8Array(9), 0), undefined);
  assert.equal(cache.accept(sid9(first(0), 1).subarray(0, 8), 0), undefined);
  assert.equal(cache.accept(sessionId(secretAt(first(0), 1)), 0), undefined);
});

test('a host that connects to itself: no secret opens and accepts two connections', () => {
  const cache = new SessionCache(limits);
  const ss0 = first(0);
  cache.add('self', ss0, 0, asS, 0);
  cache.add('vip', ss0, 0, asC, 0);
  const uses = new Map<string, { opened: number; accepted: number }>();
  const use = (session: CachedSession | undefined, how: 'opened' | 'accepted'): void => {
    if (session === undefined) return;
    const count = uses.get(hex(session.sid)) ?? { opened: 0, accepted: 0 };
    count[how]++;
    uses.set(hex(session.sid), count);
  };
  for (let i = 0; i < 20; i++) {
    for (const peer of ['self', 'vip']) {
      const taken = cache.take(peer, 0)!;
      use(taken, 'opened');
      use(cache.accept(taken.sid.subarray(0, 9), 0), 'accepted');
    }
  }
  for (const { opened, accepted } of uses.values()) assert.ok(Math.min(opened, accepted) <= 1);

  const handle = cache.add('self', first(1), 0, asS, 0);
  cache.add('vip', first(1), 0, asC, 0);
  cache.drop(handle);
  assert.ok(cache.accept(sid9(first(1), 1), 0), 'the end of one chain takes nothing from its twin');
});

type Command =
  | { kind: 'handshake'; opener: 0 | 1 }
  | { kind: 'open'; end: 0 | 1 }
  | { kind: 'deliver'; which: number }
  | { kind: 'lose'; which: number }
  | { kind: 'replay'; which: number }
  | { kind: 'drop'; end: 0 | 1; which: number }
  | { kind: 'evict'; end: 0 | 1; maxEntries: number }
  | { kind: 'wait'; ms: number }
  | { kind: 'flush'; end: 0 | 1 };

const end = fc.constantFrom<0 | 1>(0, 1);
const which = fc.nat(1_000);
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('handshake' as const), opener: end }) },
  { weight: 12, arbitrary: fc.record({ kind: fc.constant('open' as const), end }) },
  { weight: 12, arbitrary: fc.record({ kind: fc.constant('deliver' as const), which }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('lose' as const), which }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('replay' as const), which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('drop' as const), end, which }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('evict' as const),
      end,
      maxEntries: fc.integer({ min: 1, max: 6 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(HOUR / 10) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('flush' as const), end }) },
);

test('property: whatever is opened, lost, delayed and repeated, no end serves an index twice and both agree', () => {
  let opened = 0;
  let accepted = 0;
  fc.assert(
    fc.property(fc.array(command, { minLength: 60, maxLength: 150 }), (commands) => {
      const caches = [new SessionCache(limits), new SessionCache(limits)];
      const maxEntries = [limits.maxEntries, limits.maxEntries];
      const usedAt = [new Set<string>(), new Set<string>()];
      const secretOf = new Map<string, string>();
      const handles: object[][] = [[], []];
      const flying: { to: 0 | 1; sid: Uint8Array }[] = [];
      const sent: { to: 0 | 1; sid: Uint8Array }[] = [];
      const erased: Uint8Array[] = [];
      let now = 0;
      let handshakes = 0;

      const use = (at: 0 | 1, session: CachedSession): void => {
        const sid = hex(session.sid);
        assert.ok(!usedAt[at].has(sid), 'an index is served once');
        usedAt[at].add(sid);
        assert.equal(hex(sessionId(session.secret)), sid);
        assert.equal(
          secretOf.get(sid) ?? hex(session.secret),
          hex(session.secret),
          'both ends have the same secret',
        );
        secretOf.set(sid, hex(session.secret));
      };
      const arrive = ({ to, sid }: { to: 0 | 1; sid: Uint8Array }): void => {
        const session = caches[to].accept(sid, now);
        if (session !== undefined) {
          assert.deepEqual(session.sid.subarray(0, 9), sid);
          accepted++;
          use(to, session);
        }
      };

      for (const c of commands) {
        switch (c.kind) {
          case 'handshake': {
            const ss0 = first(handshakes++);
            const to = (1 - c.opener) as 0 | 1;
            handles[c.opener].push(caches[c.opener].add('peer', ss0, 0, asC, now));
            handles[to].push(caches[to].add('peer', ss0, 0, asS, now));
            break;
          }
          case 'open': {
            const session = caches[c.end].take('peer', now);
            if (session === undefined) break;
            opened++;
            use(c.end, session);
            const syn = { to: (1 - c.end) as 0 | 1, sid: session.sid.slice(0, 9) };
            flying.push(syn);
            sent.push(syn);
            break;
          }
          case 'deliver':
            if (flying.length > 0) arrive(flying.splice(c.which % flying.length, 1)[0]);
            break;
          case 'lose':
            if (flying.length > 0) flying.splice(c.which % flying.length, 1);
            break;
          case 'replay':
            if (sent.length > 0) arrive(sent[c.which % sent.length]);
            break;
          case 'drop':
            if (handles[c.end].length > 0)
              caches[c.end].drop(handles[c.end][c.which % handles[c.end].length]);
            break;
          case 'evict':
            maxEntries[c.end] = c.maxEntries;
            caches[c.end].setLimits({ ...limits, maxEntries: c.maxEntries });
            break;
          case 'wait':
            now += c.ms;
            caches[0].sweep(now);
            break;
          case 'flush':
            erased.push(...[...inside(caches[c.end]).chains].map((chain) => chain.secrets));
            caches[c.end].flush();
            assert.equal(caches[c.end].size, 0);
            break;
        }
        caches.forEach((cache, i) => {
          assertConsistent(cache, maxEntries[i]);
        });
        assert.ok(erased.every(isZero), 'what was flushed stays zero');
      }
    }),
    { numRuns: 150 },
  );
  assert.ok(
    opened > 1_500 && accepted > 500,
    `${opened} opened, ${accepted} accepted: the property tests too little`,
  );
});

test('property: every way out of the cache leaves zeros', () => {
  const exits: Record<string, (cache: SessionCache, handle: object) => void> = {
    drop: (cache, handle) => cache.drop(handle),
    withdraw: (cache) => cache.withdraw('aa'),
    flush: (cache) => cache.flush(),
    sweep: (cache) => cache.sweep(HOUR),
    take: (cache) => void cache.take('b', HOUR),
    accept: (cache) => void cache.accept(sid9(first(0), 1), HOUR),
    disable: (cache) => cache.setLimits({ ...limits, enabled: false }),
    shrink: (cache) => cache.setLimits({ ...limits, maxEntries: 0 }),
    crowd: (cache) => {
      for (let n = 1; n <= CHAINS_PER_DESTINATION; n++) cache.add('b', first(n), 0, asC, 0);
    },
  };
  for (const [name, exit] of Object.entries(exits)) {
    const cache = new SessionCache(limits);
    const handle = cache.add('b', first(0), 0, { ...asC, authenticated: true, keyId: 'aa' }, 0);
    const { secrets } = [...inside(cache).chains][0];
    assert.ok(!isZero(secrets));
    exit(cache, handle);
    assert.ok(isZero(secrets), name);
    assertConsistent(cache, 100);
  }
});
