/** wire.md section 4, "Falling back": each point where an end may return to plain, and what must not follow. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { buildSegment, fieldsOf } from '../wire/build.ts';
import { hasOurOption } from '../wire/options.ts';
import {
  ACK,
  FIN,
  flagsOf,
  optionBytes,
  type Packet,
  payloadOf,
  RST,
  SYN,
  seqNumber,
} from '../wire/packet.ts';
import { only, Script, testPolicy, text } from './testing.ts';

const stripped = (p: Packet): Packet => buildSegment(p, { ...fieldsOf(p), options: new Uint8Array(0) });
const cut = (p: Packet, from: number, to: number): Packet => {
  const f = fieldsOf(p);
  return buildSegment(p, {
    ...f,
    seq: f.seq + from,
    options: new Uint8Array(0),
    payload: f.payload.slice(from, to),
  });
};
const isPlain = (p: Packet | 'drop' | 'held') => typeof p === 'object' && !hasOurOption(optionBytes(p));

describe('return to plain', () => {
  it('a peer without tcpcrypt: plain at once, nothing more is queued', () => {
    const script = new Script();
    script.client.through('out', script.c({ flags: SYN }));
    const token = script.client.give('in', script.s({ flags: SYN, ack: 1 }));
    assert.equal(script.client.markOf(token), 'plain');
    assert.equal(only(script.client).reason, 'peer_unsupported');
  });

  it('C, when INIT1 is not answered for 3 s: the withheld ACK, then what was held; a late MAC is dropped', () => {
    const script = new Script();
    const init1 = script.toInit1();
    const data = script.c({ offset: 1, ack: 1, data: 'hello' });
    const token = script.client.give('out', data);
    for (let i = 0; i < 30; i++) script.client.pass(100);
    const sent = script.client.sent('network');
    assert.ok(isPlain(sent.at(-1)!) && payloadOf(sent.at(-1)!).length === 0, 'the bare ACK');
    assert.equal(text(script.client.fateOf(token, data) as Packet), 'hello');
    assert.equal(only(script.client).reason, 'init_timeout');
    assert.ok(script.client.rewriter.negative.has('10.0.0.2', script.client.now));
    // The server had accepted INIT1 all the while: it returns to plain by the bare ACK, and the data arrive.
    script.server.through('in', init1);
    const init2 = script.server.sent('network')[0]!;
    assert.equal(script.client.fate('in', init2), 'drop', 'the late INIT2');
    script.server.through('in', sent.at(-1)!);
    assert.equal(only(script.server).state, 'plain');
    assert.equal(text(script.server.through('in', data)), 'hello');
  });

  it('C with X25519MLKEM768 leaves that out next time, and lists nothing', () => {
    const policy = testPolicy({}, { keyExchanges: [0x210, 0x202] });
    const script = new Script({ client: { policy }, server: { policy } });
    script.toInit1(1);
    script.client.pass(3000);
    assert.ok(!script.client.rewriter.negative.has('10.0.0.2', script.client.now));
    script.client.sent('network');
    const init1 = script.toInit1(2);
    assert.ok(payloadOf(init1).length < 300);
  });

  it('Strict and Required neither write the list nor go plain', () => {
    const script = new Script({ client: { policy: testPolicy({ mode: 'Strict' }) } });
    script.toInit1();
    script.client.pass(3000);
    assert.equal(script.client.decided[0]!.outcome, 'refused');
    assert.ok(!script.client.rewriter.negative.has('10.0.0.2', script.client.now));
    assert.equal(flagsOf(script.client.sent('kernel')[0]!) & RST, RST);
  });

  it('what another pod has on its list is not offered either, unless this end has spoken tcpcrypt with it', () => {
    const list = [{ peer: '10.0.0.2', untilMs: 60_000 }];
    const script = new Script();
    assert.deepEqual(script.client.rewriter.shareNegativeList(list, 0), [], 'nor passed on');
    script.client.through('out', script.c({ flags: SYN }));
    assert.equal(only(script.client).reason, 'negative_list');
    const spoken = new Script();
    spoken.encrypt();
    spoken.carry('server', { offset: 1, ack: 1, data: 'x' });
    spoken.client.rewriter.shareNegativeList(list, 0);
    assert.ok(hasOurOption(optionBytes(spoken.client.through('out', spoken.c({ flags: SYN, port: 2 })))));
    for (const decision of [{ mode: 'Strict' }, { authentication: 'Required' }] as const) {
      const strict = new Script({ client: { policy: testPolicy(decision) } });
      strict.client.rewriter.shareNegativeList(list, 0);
      assert.ok(hasOurOption(optionBytes(strict.client.through('out', strict.c({ flags: SYN })))));
    }
  });

  it('S by a plain segment after its PKCONF', () => {
    const script = new Script();
    script.syns();
    const ack = script.server.through('in', script.c({ offset: 1, ack: 1 }));
    assert.ok(isPlain(ack));
    assert.equal(only(script.server).reason, 'options_stripped');
    assert.equal(text(script.server.through('in', script.c({ offset: 1, ack: 1, data: 'plain' }))), 'plain');
  });

  it('S after INIT2, by a plain segment that acknowledges nothing of it; what it held goes out plain', () => {
    const script = new Script();
    script.server.through('in', script.toInit1());
    script.server.sent('network');
    const banner = script.s({ offset: 1, ack: 1, data: '220' });
    const token = script.server.give('out', banner);
    script.server.through('in', script.c({ offset: 1, ack: 1 }));
    assert.equal(only(script.server).state, 'plain');
    assert.equal(text(script.server.fateOf(token, banner) as Packet), '220');
  });

  it('INIT2 and the fallback of C cross on the wire: C goes on in plain, S follows', () => {
    const script = new Script();
    script.server.through('in', script.toInit1());
    const init2 = script.server.sent('network')[0]!;
    script.client.pass(3000);
    const bare = script.client.sent('network').at(-1)!;
    assert.equal(script.client.fate('in', init2), 'drop');
    script.server.through('in', bare);
    assert.equal(only(script.server).state, 'plain');
    assert.equal(
      text(script.carry('server', { offset: 1, ack: 1, data: 'both plain' }).delivered.at(-1)!),
      'both plain',
    );
  });

  it('one with neither option that acknowledges our INIT is no fallback', () => {
    const script = new Script();
    const init1 = script.toInit1();
    script.server.through('in', init1);
    const init2 = script.server.sent('network')[0]!;
    const acked = script.s({ offset: 1, ack: 1 + payloadOf(init1).length });
    assert.equal(script.client.fate('in', acked), 'drop');
    assert.equal(only(script.client).state, 'setup');
    const acked2 = script.c({ offset: 1 + payloadOf(init1).length, ack: 1 + payloadOf(init2).length });
    assert.equal(script.server.fate('in', acked2), 'drop');
    assert.equal(only(script.server).state, 'setup');
  });

  it('FIN in setup goes plain', () => {
    const script = new Script();
    script.syns();
    script.server.through('in', script.c({ offset: 1, ack: 1, flags: FIN }));
    assert.equal(only(script.server).state, 'plain');
  });

  it('an RST of the kernel leaves C-MODE at once and ends it', () => {
    const script = new Script();
    script.toInit1();
    const held = script.c({ offset: 1, ack: 1, data: 'x' });
    const token = script.client.give('out', held);
    assert.ok(isPlain(script.client.through('out', script.c({ offset: 2, flags: RST }))));
    assert.equal(script.client.fateOf(token, held), 'drop');
    assert.deepEqual([...script.client.rewriter.connections()], []);
  });

  it('a connection that is bound and on which nothing verifies lists its destination and drops its chain', () => {
    const script = new Script();
    script.server.through('in', script.toInit1());
    script.client.give('in', script.server.sent('network')[0]!);
    script.client.rewriter.reconcile([], 1);
    script.client.rewriter.reconcile([], 2);
    assert.ok(script.client.rewriter.negative.has('10.0.0.2', script.client.now));
    assert.equal(script.client.rewriter.cache.size, 0);
  });
});

describe('INIT data never reaches a kernel', () => {
  it('an INIT1 or INIT2 whose option was stripped, whole or in pieces, in setup', () => {
    const script = new Script();
    const init1 = script.toInit1();
    for (const p of [stripped(init1), cut(init1, 0, 50), cut(init1, 50, 100), cut(init1, 0, 8)]) {
      assert.equal(script.server.fate('in', p), 'drop');
    }
    assert.equal(only(script.server).state, 'setup');
    script.server.through('in', init1);
    const init2 = script.server.sent('network')[0]!;
    for (const p of [stripped(init2), cut(init2, 0, 20), cut(init2, 20, 77)]) {
      assert.equal(script.client.fate('in', p), 'drop');
    }
    assert.equal(only(script.client).state, 'setup');
  });

  it('nor after the fallback, as it was, stripped, cut or twice', () => {
    const script = new Script();
    const init1 = script.toInit1();
    script.server.through('in', init1);
    const init2 = script.server.sent('network')[0]!;
    script.client.pass(3000);
    script.server.through('in', script.client.sent('network').at(-1)!);
    for (const p of [init1, init1, stripped(init1), cut(init1, 0, 60), cut(init1, 60, 100)]) {
      assert.equal(script.server.fate('in', p), 'drop');
    }
    for (const p of [init2, stripped(init2), cut(init2, 0, 30)])
      assert.equal(script.client.fate('in', p), 'drop');
    assert.equal(text(script.server.through('in', script.c({ offset: 1, ack: 1, data: 'real' }))), 'real');
  });

  it('nothing beyond a gap', () => {
    const script = new Script();
    script.syns();
    script.server.through('in', script.c({ offset: 1, ack: 1 }));
    assert.equal(script.server.fate('in', script.c({ offset: 50, ack: 1, data: 'tail' })), 'drop');
    script.server.through('in', script.c({ offset: 1, ack: 1, data: 'head' }));
    assert.equal(script.server.fate('in', script.c({ offset: 50, ack: 1, data: 'tail' })), 'drop');
    assert.equal(text(script.server.through('in', script.c({ offset: 5, ack: 1, data: 'tail' }))), 'tail');
  });

  it('the connection is marked plain when the stream has passed the longest INIT', () => {
    const script = new Script();
    script.syns();
    const first = script.server.give('in', script.c({ offset: 1, ack: 1, data: 'GET /' }));
    assert.equal(script.server.markOf(first), undefined);
    script.server.give('out', script.s({ offset: 1, ack: 5000 }));
    const later = script.server.give('in', script.c({ offset: 5000, ack: 1, data: 'x' }));
    assert.equal(script.server.markOf(later), 'plain');
  });
});

describe('Strict', () => {
  const strict = { policy: testPolicy({ mode: 'Strict' as const }) };
  it('refuses a plain peer: our kernel and the peer are reset', () => {
    const script = new Script({ client: strict });
    script.client.through('out', script.c({ flags: SYN }));
    assert.equal(script.client.fate('in', script.s({ flags: SYN, ack: 1 })), 'drop');
    const toKernel = script.client.sent('kernel')[0]!;
    assert.equal(flagsOf(toKernel), RST | ACK);
    assert.equal(seqNumber(script.client.sent('network')[0]!), script.isnClient + 1);
    assert.deepEqual(
      script.client.decided.map((each) => [each.outcome, each.connection.reason]),
      [['refused', 'peer_unsupported']],
    );
  });

  it('refuses a SYN without CRYPT', () => {
    const script = new Script({ server: strict });
    assert.equal(script.server.fate('in', script.c({ flags: SYN })), 'drop');
    assert.equal(flagsOf(script.server.sent('network')[0]!), RST | ACK);
  });

  it('lets two Strict ends talk', () => {
    const script = new Script({ client: strict, server: strict });
    script.encrypt();
    assert.equal(only(script.server).state, 'encrypted');
  });

  it('Audit does as Opportunistic and reports what Strict would refuse', () => {
    const script = new Script({ client: { policy: testPolicy({ mode: 'Audit' }) } });
    script.client.through('out', script.c({ flags: SYN }));
    script.client.through('in', script.s({ flags: SYN, ack: 1 }));
    assert.deepEqual(
      script.client.decided.map((each) => [each.outcome, each.wouldRefuse]),
      [['plain', true]],
    );
  });
});

describe('RST of S after INIT2', () => {
  it('leaves plain and with MAC, so that C takes one of them, whether it has INIT2 or not', () => {
    for (const bound of [false, true]) {
      const script = new Script();
      script.server.through('in', script.toInit1());
      const init2 = script.server.sent('network')[0]!;
      if (bound) script.client.give('in', init2);
      const plain = script.server.through('out', script.s({ offset: 1, ack: 1, flags: RST }));
      const sealed = script.server.sent('network')[0]!;
      const taken = script.client.through('in', bound ? sealed : plain);
      assert.equal(seqNumber(taken), script.isnServer + 1);
      script.client.rewriter.reconcile([], 1);
      script.client.rewriter.reconcile([], 2);
      assert.ok(!script.client.rewriter.negative.has('10.0.0.2', script.client.now));
    }
  });

  it('simultaneous open in Strict mode is refused', () => {
    const script = new Script({ client: { policy: testPolicy({ mode: 'Strict' }) } });
    script.client.through('out', script.c({ flags: SYN }));
    assert.equal(script.client.fate('in', script.s({ flags: SYN })), 'drop');
    assert.equal(script.client.decided[0]!.outcome, 'refused');
    assert.equal(flagsOf(script.client.sent('kernel')[0]!), RST | ACK);
  });
});
