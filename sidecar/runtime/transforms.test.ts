/** The addon's transforms are let go of by whoever holds a connection: the garbage collector knows nothing of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { native } from '../nfqueue-bindings/native.ts';
import { nativeSuites } from '../nfqueue-bindings/suites.ts';
import { End, MemoryStore, only, Script, testPolicy } from '../rewriter/testing.ts';

test('connections that are over leave no keys with the addon', () => {
  const store = new MemoryStore();
  // Each connection with data begins a new generation.
  const policy = testPolicy({}, { rekey: { afterBytes: 1, afterMs: Number.POSITIVE_INFINITY } });
  const end = { suites: nativeSuites, policy };
  const script = new Script({ client: { ...end, store }, server: end });
  script.encrypt();
  for (let offset = 1; offset < 40; offset++) {
    script.carry('client', { offset, ack: offset, data: 'x' });
    script.carry('server', { offset, ack: offset + 1, data: 'y' });
  }
  assert.ok(native.countTransforms() >= 4);

  // Taken back, beside a record whose socket is gone and one whose pair of addresses is another connection's by now.
  const records = [...store.records];
  const { local, remote } = only(script.client);
  const socket = { local, remote, state: 1, sendQueueBytes: 0 };
  const fresh = new End({ suites: nativeSuites });
  const before = native.countTransforms();
  assert.equal(fresh.rewriter.restore(records, [], 1), 0);
  assert.equal(fresh.rewriter.restore(records, [{ ...socket, bytesAcked: 0, bytesReceived: 0 }], 1), 0);
  assert.equal(native.countTransforms(), before);
  assert.equal(fresh.rewriter.restore(records, [socket], 1), 1);
  assert.ok(native.countTransforms() > before);

  // S goes back to plain after its INIT2, and another connection is resumed.
  const half = new Script({ server: { suites: nativeSuites } });
  half.server.through('in', half.toInit1());
  half.server.through('in', half.c({ offset: 1, ack: 1 }));
  assert.equal(only(half.server).state, 'plain');
  script.syns(40_001);

  for (const each of [script.client, script.server, fresh, half.server]) {
    each.pass(3_600_000);
    for (let i = 0; i < 2; i++) each.rewriter.reconcile([], each.now);
    assert.equal(each.rewriter.counts().encrypted, 0);
  }
  assert.equal(native.countTransforms(), 0);
});
