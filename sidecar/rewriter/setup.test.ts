/** wire.md section 4, "Offering" and "Agreeing". */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { keyExchanges as exchanges } from '../crypto/key-exchange.ts';
import { buildSegment, fieldsOf } from '../wire/build.ts';
import { cryptOption, parseOptions } from '../wire/options.ts';
import {
  ACK,
  ackNumber,
  FIN,
  flagsOf,
  optionBytes,
  type Packet,
  PSH,
  payloadOf,
  RST,
  SYN,
  seqNumber,
} from '../wire/packet.ts';
import {
  DECLINE,
  encodeSuboptions,
  HELLO,
  INIT1,
  INIT2,
  NEXTK1,
  NEXTK2,
  PKCONF,
  parseSuboptions,
  UNKNOWN,
} from '../wire/suboptions.ts';
import { End, MemoryStore, only, Script, testPolicy, text } from './testing.ts';

const EXPERIMENTAL = { write: 'experimental', readBoth: false } as const;

const optionsOf = (p: Packet) => {
  const options = parseOptions(optionBytes(p), EXPERIMENTAL);
  if (options === 'malformed') throw new Error('malformed options');
  return options;
};
const opcodes = (p: Packet): number[] => {
  const parsed = parseSuboptions(optionsOf(p).crypt);
  if (parsed === 'malformed') throw new Error('malformed CRYPT');
  return [...parsed.list.map((each) => each.opcode), ...parsed.unknownMandatory];
};
const hasCrypt = (p: Packet) => optionsOf(p).crypt.length > 0;
const raw = (...bytes: number[]) => Uint8Array.from(bytes);

describe('offering', () => {
  it('puts an empty CRYPT, which means HELLO, into a SYN', () => {
    const script = new Script();
    const syn = script.client.through('out', script.c({ flags: SYN }));
    assert.equal(optionsOf(syn).crypt.length, 1);
    assert.equal(optionsOf(syn).crypt[0]!.length, 0);
  });

  const never: [string, Parameters<Script['c']>[0], string][] = [
    ['a SYN with data', { flags: SYN, data: 'x' }, 'incompatible_option'],
    ['TCP Fast Open', { flags: SYN, options: [raw(34, 2)] }, 'incompatible_option'],
    ['MPTCP', { flags: SYN, options: [raw(30, 4, 0, 0)] }, 'incompatible_option'],
    ['MD5', { flags: SYN, options: [raw(19, 18, ...new Array(16).fill(0))] }, 'incompatible_option'],
    ['TCP-AO', { flags: SYN, options: [raw(29, 4, 0, 0)] }, 'incompatible_option'],
    [
      'no room among the options',
      { flags: SYN, options: [raw(200, 24, ...new Array(22).fill(0))] },
      'no_option_space',
    ],
  ];
  for (const [what, fields, reason] of never) {
    it(`never with ${what}`, () => {
      const script = new Script();
      const token = script.client.give('out', script.c(fields));
      assert.equal(script.client.markOf(token), 'plain');
      assert.equal(only(script.client).reason, reason);
    });
  }

  it('never where policy says Disabled, nor to a destination on the negative list', () => {
    const script = new Script({ client: { policy: testPolicy({ mode: 'Disabled' }) } });
    assert.ok(!hasCrypt(script.client.through('out', script.c({ flags: SYN }))));
    assert.equal(only(script.client).reason, 'policy');

    const listed = new Script();
    listed.client.rewriter.negative.add('10.0.0.2', listed.client.now);
    assert.ok(!hasCrypt(listed.client.through('out', listed.c({ flags: SYN }))));
    assert.equal(only(listed.client).reason, 'negative_list');
    const strict = new Script({ client: { policy: testPolicy({ mode: 'Strict' }) } });
    strict.client.rewriter.negative.add('10.0.0.2', strict.client.now);
    assert.ok(
      hasCrypt(strict.client.through('out', strict.c({ flags: SYN }))),
      'Strict does not read the list',
    );
  });

  it('the first repetition of a SYN goes without CRYPT; the late PKCONF of its twin changes nothing', () => {
    const script = new Script();
    script.server.through('in', script.client.through('out', script.c({ flags: SYN })));
    const lost = script.server.through('out', script.s({ flags: SYN, ack: 1 }));
    assert.deepEqual(opcodes(lost), [PKCONF]);
    assert.ok(hasCrypt(script.client.through('out', script.c({ flags: SYN }))), 'repeated at once: not lost');
    script.client.now += 1000;
    const again = script.client.through('out', script.c({ flags: SYN }));
    assert.ok(!hasCrypt(again));
    const toKernel = script.client.through('in', lost);
    assert.ok(!hasCrypt(toKernel));
    assert.equal(only(script.client).reason, 'syn_timeout');
    const ack = script.client.through('out', script.c({ offset: 1, ack: 1 }));
    assert.ok(!hasCrypt(ack));
    script.server.through('in', ack);
    assert.equal(only(script.server).state, 'plain');
  });

  it('repeats CRYPT to a peer that has spoken tcpcrypt lately', () => {
    const script = new Script();
    script.client.rewriter.known.note('10.0.0.2', script.client.now);
    script.client.through('out', script.c({ flags: SYN }));
    script.client.now += 1000;
    assert.ok(hasCrypt(script.client.through('out', script.c({ flags: SYN }))));
  });

  it('two SYN timeouts to one destination put it on the negative list', () => {
    const script = new Script();
    for (const port of [1, 2]) {
      script.client.through('out', script.c({ flags: SYN, port }));
      script.client.now += 1000;
      const plain = script.client.through('out', script.c({ flags: SYN, port }));
      script.server.through('in', plain);
      const echo = optionsOf(plain).timestamps!.val;
      const answer = script.s({ flags: SYN, ack: 1, port });
      const options = optionBytes(answer).slice();
      new DataView(options.buffer).setUint32(options.length - 4, echo);
      script.client.through('in', buildSegment(answer, { ...fieldsOf(answer), options }));
    }
    assert.ok(script.client.rewriter.negative.has('10.0.0.2', script.client.now));
  });

  it('a SYN and its SYN-ACK are marked as offered, then tcpcrypt', () => {
    const script = new Script();
    const syn = script.client.give('out', script.c({ flags: SYN }));
    assert.equal(script.client.markOf(syn), 'offered');
    const p = script.c({ flags: SYN });
    script.server.through('in', script.client.through('out', p));
  });

  it('a SYN whose twin went by while nobody listened stays plain, at either end', () => {
    const script = new Script();
    const token = script.client.give('out', script.c({ flags: SYN }), 'offered');
    assert.equal(script.client.markOf(token), 'plain');
    assert.equal(only(script.client).reason, 'bypassed');
    const syn = script.client.through('out', script.c({ flags: SYN, port: 2 }));
    assert.equal(script.server.markOf(script.server.give('in', syn, 'offered')), 'plain');
    assert.equal(only(script.server).reason, 'bypassed');
  });

  it('simultaneous open is plain', () => {
    const script = new Script();
    script.client.through('out', script.c({ flags: SYN }));
    const theirs = script.s({ flags: SYN, options: [cryptOption(raw(), EXPERIMENTAL)] });
    const token = script.client.give('in', theirs);
    assert.equal(script.client.markOf(token), 'plain');
    assert.equal(only(script.client).reason, 'simultaneous_open');
  });

  it('HELLO in a SYN-ACK, DECLINE, an unknown mandatory suboption, or a CRYPT that cannot be read: plain', () => {
    const cases: [Uint8Array, string][] = [
      [raw(HELLO), 'declined'],
      [raw(DECLINE), 'declined'],
      [raw(0xc1), 'declined'],
      [raw(PKCONF, 9, 0, 2), 'malformed'],
      [raw(PKCONF, 4, 0, 2), 'malformed'],
      [raw(NEXTK2), 'declined'],
    ];
    for (const [body, reason] of cases) {
      const script = new Script();
      script.client.through('out', script.c({ flags: SYN }));
      const synAck = script.s({ flags: SYN, ack: 1, options: [cryptOption(body, EXPERIMENTAL)] });
      assert.ok(!hasCrypt(script.client.through('in', synAck)));
      assert.equal(only(script.client).reason, reason, Buffer.from(body).toString('hex'));
    }
  });

  it('an unknown mandatory suboption is answered with DECLINE and UNKNOWN, once', () => {
    const script = new Script();
    script.client.through('out', script.c({ flags: SYN }));
    script.client.through(
      'in',
      script.s({ flags: SYN, ack: 1, options: [cryptOption(raw(0xc1), EXPERIMENTAL)] }),
    );
    assert.deepEqual(opcodes(script.client.through('out', script.c({ offset: 1, ack: 1 }))), [
      DECLINE,
      UNKNOWN,
    ]);
    assert.ok(!hasCrypt(script.client.through('out', script.c({ offset: 1, ack: 1, data: 'x' }))));
  });
});

describe('agreeing', () => {
  for (const version of [4, 6] as const) {
    it(`over IPv${version}: INIT1, INIT2, and both ends with one session ID`, () => {
      const script = new Script({ version });
      const { init1, init2 } = script.encrypt();
      assert.deepEqual(opcodes(init1), [INIT1]);
      assert.deepEqual(opcodes(init2), [INIT2]);
      for (const p of [init1, init2]) assert.equal(flagsOf(p), ACK | PSH);
      assert.equal(only(script.client).state, 'encrypted');
      assert.equal(only(script.server).state, 'encrypted');
      assert.equal(only(script.client).sessionId, only(script.server).sessionId);
      const { delivered } = script.carry('client', { offset: 1, ack: 1, data: 'hello' });
      assert.equal(text(delivered[0]!), 'hello');
    });
  }

  for (const id of [0x210, 0x202, 0x200, 0x201]) {
    it(`by key exchange 0x${id.toString(16)}`, () => {
      const policy = testPolicy({}, { keyExchanges: [id] });
      const script = new Script({ client: { policy }, server: { policy } });
      script.encrypt();
      assert.equal(only(script.client).sessionId, only(script.server).sessionId);
    });
  }

  it('RSA, behind its setting, takes an MSS that holds it', () => {
    const policy = testPolicy({}, { keyExchanges: [0x100] });
    const script = new Script({ client: { policy }, server: { policy } });
    script.encrypt();
    assert.equal(only(script.server).keyExchange, 'RSA-OAEP');
  });

  for (const id of [0x100, 0x300, 0x400, 0x500, 0x600]) {
    it(`with suite 0x${id.toString(16)}`, () => {
      const policy = testPolicy({}, { suites: [id] });
      const script = new Script({ client: { policy }, server: { policy } });
      script.encrypt();
      const { delivered } = script.carry('server', { offset: 1, ack: 1, data: 'speaks first' });
      assert.equal(text(delivered[0]!), 'speaks first');
    });
  }

  it('in the legacy encoding', () => {
    const encodings = { write: 'legacy', readBoth: false } as const;
    const script = new Script({ client: { encodings }, server: { encodings } });
    script.encrypt();
    assert.equal(only(script.server).state, 'encrypted');
  });

  it('takes the next exchange where the peer cannot hold the large one in a segment', () => {
    const policy = testPolicy({}, { keyExchanges: [0x210, 0x202] });
    const script = new Script({ client: { policy }, server: { policy }, mssServer: 1000 });
    script.encrypt();
    assert.equal(only(script.client).keyExchange, 'X25519');
  });

  it('takes the next exchange where there is no key at hand, and none else: plain, without a wait', () => {
    const keyExchanges = new Map(exchanges);
    keyExchanges.set(0x210, { ...exchanges.get(0x210)!, prepare: () => false });
    for (const [offered, state] of [
      [[0x210, 0x202], 'encrypted'],
      [[0x210], 'plain'],
    ] as const) {
      const policy = testPolicy({}, { keyExchanges: offered });
      const script = new Script({ client: { policy, keyExchanges }, server: { policy } });
      script.syns();
      const ack = script.c({ offset: 1, ack: 1 });
      const fate = script.client.fateOf(script.client.give('out', ack), ack);
      const [init1] = script.client.sent('network');
      if (state === 'plain')
        assert.deepEqual([only(script.client).reason, fate, init1], ['no_common_algorithm', ack, undefined]);
      else assert.ok(init1 && payloadOf(init1).length < 300);
    }
  });

  it('holds what the client kernel sends before INIT2, and sends it encrypted after', () => {
    const script = new Script();
    const init1 = script.toInit1();
    const early = script.c({ offset: 1, ack: 1, data: 'early' });
    const token = script.client.give('out', early);
    assert.equal(script.client.fateOf(token, early), 'held');
    script.server.through('in', init1);
    script.client.give('in', script.server.sent('network')[0]!);
    const released = script.client.fateOf(token, early) as Packet;
    assert.notEqual(text(released), 'early');
    for (const ack of script.client.sent('network')) script.server.through('in', ack);
    assert.equal(text(script.server.through('in', released)), 'early');
  });

  it('holds what a server that speaks first sends until the client has verified', () => {
    const script = new Script();
    script.server.through('in', script.toInit1());
    const banner = script.s({ offset: 1, ack: 1, data: '220 ready' });
    const token = script.server.give('out', banner);
    assert.equal(script.server.fateOf(token, banner), 'held');
    script.client.give('in', script.server.sent('network')[0]!);
    script.server.through('in', script.client.sent('network')[0]!);
    const released = script.server.fateOf(token, banner) as Packet;
    assert.equal(text(script.client.through('in', released)), '220 ready');
  });

  it('repeats INIT1 by its own timer, always the same bytes, doubling', () => {
    const script = new Script();
    const init1 = script.toInit1();
    const at: number[] = [];
    for (let ms = 0; ms < 2900; ms += 10) {
      script.client.pass(10);
      for (const again of script.client.sent('network')) {
        assert.deepEqual(payloadOf(again), payloadOf(init1));
        at.push(ms + 10);
      }
    }
    assert.deepEqual(at, [200, 600, 1400]);
  });

  it('repeats INIT2 until a valid MAC comes, and answers a repeated INIT1 with the same INIT2', () => {
    const script = new Script();
    const init1 = script.toInit1();
    script.server.through('in', init1);
    const init2 = script.server.sent('network')[0]!;
    script.server.pass(200);
    assert.deepEqual(payloadOf(script.server.sent('network')[0]!), payloadOf(init2));
    const toKernel = script.server.through('in', init1);
    assert.equal(payloadOf(toKernel).length, 0, 'the kernel gets the bare ACK again');
    assert.deepEqual(payloadOf(script.server.sent('network')[0]!), payloadOf(init2));
    script.client.give('in', init2);
    for (const ack of script.client.sent('network')) script.server.through('in', ack);
    script.server.pass(5000);
    assert.deepEqual(script.server.sent('network'), []);
  });

  it('ignores an INIT1 that differs from the one it answered', () => {
    const script = new Script();
    const init1 = script.toInit1();
    script.server.through('in', init1);
    const other = payloadOf(init1).slice();
    other[40]! ^= 1;
    assert.equal(
      script.server.fate('in', buildSegment(init1, { ...fieldsOf(init1), payload: other })),
      'drop',
    );
  });

  it('answers a repeated SYN-ACK and a repeated INIT2 once it is bound', () => {
    const script = new Script();
    const { synAck } = script.syns();
    script.client.give('out', script.c({ offset: 1, ack: 1 }));
    const init1 = script.client.sent('network')[0]!;
    assert.equal(script.client.fate('in', synAck), 'drop');
    assert.deepEqual(payloadOf(script.client.sent('network')[0]!), payloadOf(init1), 'in C-MODE with INIT1');
    script.server.through('in', init1);
    const init2 = script.server.sent('network')[0]!;
    script.client.give('in', init2);
    script.client.sent('network');
    for (const again of [synAck, init2]) {
      assert.equal(script.client.fate('in', again), 'drop');
      const [ack] = script.client.sent('network');
      assert.equal(optionsOf(ack!).macs, 1);
    }
  });

  it('answers no other INIT2, and the same one after a restart too', () => {
    const store = new MemoryStore();
    const script = new Script({ client: { store } });
    const { init2 } = script.encrypt();
    const { local, remote } = only(script.client);
    const fresh = new End();
    fresh.rewriter.restore([...store.records], [{ local, remote, state: 1, sendQueueBytes: 0 }], 1);
    const other = payloadOf(init2).slice();
    other[40]! ^= 1; // in the nonce
    for (const end of [script.client, fresh]) {
      assert.equal(end.fate('in', init2), 'drop');
      assert.equal(end.sent('network').length, 1);
      for (const payload of [other, payloadOf(init2).subarray(0, -1)]) {
        assert.equal(end.fate('in', buildSegment(init2, { ...fieldsOf(init2), payload })), 'drop');
        assert.equal(end.sent('network').length, 0);
      }
    }
  });

  it('keeps nothing of what only setup needs', () => {
    const script = new Script();
    script.client.rewriter.setAppSupport(80, 'support'); // so that the SYN's option has something in it
    script.encrypt();
    script.carry('server', { offset: 1, ack: 1, data: 'x' });
    script.carry('client', { offset: 1, ack: 2, data: 'y' });
    for (const { rewriter } of [script.client, script.server]) {
      const [c] = [...rewriter.table.values()];
      const { initSent, initSeen, initiation, held, resume, ackCookie, synBody, offered } = c!;
      assert.deepEqual(
        { initSent, initSeen, initiation, held, resume, ackCookie },
        {
          ...{ initSent: undefined, initSeen: undefined, initiation: undefined },
          ...{ held: undefined, resume: undefined, ackCookie: undefined },
        },
      );
      assert.equal(synBody.length, 0);
      assert.equal(c!.active ? c!.synAckBody.length + offered.length : 0, 0);
    }
    const bodies = [41_000, 41_001].map((port) => {
      script.syns(port);
      return [...script.server.rewriter.table.values()].at(-1)!.synAckBody;
    });
    assert.equal(bodies[0], bodies[1], 'one array for all');
  });

  it('echoes a SYNCOOKIE as ACKCOOKIE beside INIT1', () => {
    const script = new Script();
    script.client.through('out', script.c({ flags: SYN }));
    const body = encodeSuboptions([
      { opcode: PKCONF, data: raw(0, 2, 2) },
      { opcode: 0x44, data: raw(9, 8, 7) },
    ]);
    script.client.through('in', script.s({ flags: SYN, ack: 1, options: [cryptOption(body, EXPERIMENTAL)] }));
    script.client.give('out', script.c({ offset: 1, ack: 1 }));
    const init1 = script.client.sent('network')[0]!;
    assert.deepEqual(opcodes(init1), [0x45, INIT1]);
  });

  it('with SYN cookies, the ACK tells which of our ISNs counts', () => {
    const script = new Script();
    const syn = script.client.through('out', script.c({ flags: SYN }));
    script.server.through('in', syn);
    const first = script.server.through('out', script.s({ flags: SYN, ack: 1 }));
    script.server.through('out', script.s({ flags: SYN, ack: 1, offset: 77_777 }));
    script.client.through('in', first);
    script.client.give('out', script.c({ offset: 1, ack: 1 }));
    script.server.through('in', script.client.sent('network')[0]!);
    assert.equal(seqNumber(script.server.sent('network')[0]!), script.isnServer + 1);
  });

  it('drops in setup what a blind sender may send', () => {
    const script = new Script();
    script.syns();
    script.client.give('out', script.c({ offset: 1, ack: 1 }));
    const wrong = [
      script.s({ offset: 1, ack: 5000, data: 'x' }),
      script.s({ offset: 2, flags: RST }),
      script.s({ offset: 1 }),
    ];
    for (const p of wrong) assert.equal(script.client.fate('in', p), 'drop');
    assert.equal(only(script.client).state, 'setup');
    for (const p of [script.c({ offset: 1, ack: 7 }), script.c({ offset: 9, flags: RST })]) {
      assert.equal(script.server.fate('in', p), 'drop');
    }
    assert.equal(only(script.server).state, 'setup');
  });

  it('an RST at exactly 1 ends the setup', () => {
    const script = new Script();
    script.syns();
    assert.ok(typeof script.client.fate('in', script.s({ offset: 1, ack: 1, flags: RST })) === 'object');
    assert.deepEqual([...script.client.rewriter.connections()], []);
  });

  it('an INIT with FIN is dropped', () => {
    const script = new Script();
    const init1 = script.toInit1();
    const bad = buildSegment(init1, { ...fieldsOf(init1), flags: ACK | FIN });
    assert.equal(script.server.fate('in', bad), 'drop');
  });

  it('declines an INIT1 that it cannot accept, each time it comes, and both go on in plain', () => {
    for (const spoil of ['suites', 'length', 'point'] as const) {
      const script = new Script({
        server: { policy: testPolicy({}, { suites: [0x300] }) },
        client: { policy: testPolicy({}, { suites: spoil === 'suites' ? [0x100] : [0x300] }) },
      });
      const init1 = script.toInit1();
      const payload = payloadOf(init1).slice();
      if (spoil === 'length') payload[3]! ^= 1;
      if (spoil === 'point') payload.fill(0, payload.length - 32);
      const bad = buildSegment(init1, { ...fieldsOf(init1), payload });
      const toKernel = script.server.through('in', bad);
      assert.equal(payloadOf(toKernel).length, 0);
      const [decline] = script.server.sent('network');
      assert.deepEqual(opcodes(decline!), [DECLINE], spoil);
      assert.equal(ackNumber(decline!), script.isnClient + 1, 'INIT1 is not acknowledged');
      assert.equal(script.server.fate('in', bad), 'drop');
      assert.deepEqual(opcodes(script.server.sent('network')[0]!), [DECLINE], 'and again');
      script.client.through('in', decline!);
      assert.equal(only(script.client).reason, 'declined');
      const { delivered } = script.carry('client', { offset: 1, ack: 1, data: 'plain' });
      assert.equal(text(delivered.at(-1)!), 'plain');
    }
  });

  it('declines an INIT1 with a nonce of its own', () => {
    const script = new Script();
    const init1 = script.toInit1();
    const nonceAt = 12 + 4 * testPolicy().suites.length;
    script.server.rewriter.noteOwnNonce(payloadOf(init1).subarray(nonceAt, nonceAt + 32));
    script.server.through('in', init1);
    assert.equal(only(script.server).reason, 'malformed');
  });

  it('lowers the MSS that its kernel sees, by our link too where that is smaller', () => {
    const script = new Script({ mssClient: 8960, mssServer: 1460 });
    const { synAck } = script.syns();
    assert.equal(optionsOf(synAck).mss, 1460, 'the peer sees what the kernel said');
    const small = new Script({ mssClient: 1460, mssServer: 8960 });
    small.client.through('out', small.c({ flags: SYN }));
    small.server.through('in', small.client.through('out', small.c({ flags: SYN, port: 2 })));
    const answer = small.server.through('out', small.s({ flags: SYN, ack: 1, port: 2 }));
    assert.equal(optionsOf(small.client.through('in', answer)).mss, 1460 - 28);
    const bare = new Script({ timestamps: false });
    bare.server.fate('in', bare.client.through('out', bare.c({ flags: SYN })));
    const seen = bare.client.through('in', bare.server.through('out', bare.s({ flags: SYN, ack: 1 })));
    assert.equal(optionsOf(seen).mss, 1460 - 32);
    const passive = new Script();
    const syn = passive.client.through('out', passive.c({ flags: SYN }));
    assert.equal(optionsOf(passive.server.through('in', syn)).mss, 1460 - 32, 'S may not use timestamps');
  });

  it('application support bits reach the other end, and a mandatory one finds no unaware application', () => {
    const script = new Script();
    script.client.rewriter.setAppSupport(80, 'support');
    script.server.rewriter.setAppSupport(80, 'support');
    script.encrypt();
    assert.ok(only(script.client).peerAppSupport && only(script.server).peerAppSupport);
    const mandatory = new Script();
    mandatory.client.rewriter.setAppSupport(80, 'mandatory');
    mandatory.syns();
    assert.equal(only(mandatory.client).reason, 'declined');
    assert.equal(only(mandatory.server).reason, 'declined');
  });
});

describe('session cache', () => {
  it('the second connection is resumed, under other keys and another session ID', () => {
    const script = new Script();
    script.encrypt(1);
    const { syn, synAck } = script.syns(2);
    assert.deepEqual(opcodes(syn), [NEXTK1]);
    assert.deepEqual(opcodes(synAck), [NEXTK2]);
    const { delivered, wire } = script.carry('client', { offset: 1, ack: 1, data: 'again', port: 2 });
    assert.equal(text(delivered[0]!), 'again');
    assert.equal(seqNumber(wire[0]!), script.isnClient + 1, 'a cached handshake has no deltas');
    const ids = [...script.client.rewriter.connections()].map((each) => each.sessionId);
    assert.notEqual(ids[0], ids[1]);
    assert.deepEqual(
      [...script.client.rewriter.connections()].map((each) => each.handshake),
      ['full', 'cached'],
    );
  });

  it('an unknown SID is answered with PKCONF, and a full handshake follows', () => {
    const script = new Script();
    script.encrypt(1);
    script.server.rewriter.flushSessionCache();
    const init1 = script.toInit1(2);
    assert.deepEqual(opcodes(init1), [INIT1]);
  });

  it('a SYN whose twin came without CRYPT is answered with PKCONF', () => {
    const script = new Script();
    script.encrypt(1);
    const syn = script.client.through('out', script.c({ flags: SYN, port: 2 }));
    script.server.through('in', syn);
    script.server.through('in', script.c({ flags: SYN, port: 2 }));
    script.server.through('in', syn);
    assert.deepEqual(opcodes(script.server.through('out', script.s({ flags: SYN, ack: 1, port: 2 }))), [
      PKCONF,
    ]);
  });

  it('the state of a resumed connection lives without a socket until something verifies (SYN cookies)', () => {
    const script = new Script();
    script.encrypt(1);
    script.syns(2);
    for (let n = 0; n < 3; n++) script.server.rewriter.reconcile([], n);
    assert.equal(only(script.server).handshake, 'cached');
    const again = script.server.through('out', script.s({ flags: SYN, ack: 1, offset: 999, port: 2 }));
    assert.deepEqual(opcodes(again), [NEXTK2]);
  });

  it('a SYN of ours that is repeated after NEXTK2 came is still the same connection', () => {
    const script = new Script();
    script.encrypt(1);
    script.syns(2);
    const before = [...script.client.rewriter.connections()][1]!.sessionId;
    assert.deepEqual(opcodes(script.client.through('out', script.c({ flags: SYN, port: 2 }))), [NEXTK1]);
    assert.equal([...script.client.rewriter.connections()][1]!.sessionId, before);
  });

  it('policy turns it off', () => {
    const policy = testPolicy({}, { sessionCache: { enabled: false, maxEntries: 0, lifetimeMs: 0 } });
    const script = new Script({ client: { policy } });
    script.encrypt(1);
    const syn = script.client.through('out', script.c({ flags: SYN, port: 2 }));
    assert.equal(optionsOf(syn).crypt[0]!.length, 0);
  });

  it('a resumed connection keeps the roles of the first, whichever side opens', () => {
    const script = new Script();
    script.encrypt(1);
    const syn = script.server.through('out', script.s({ flags: SYN, port: 3 }));
    assert.deepEqual(opcodes(syn), [NEXTK1]);
    script.client.through('in', syn);
    const synAck = script.client.through('out', script.c({ flags: SYN, ack: 1, port: 3 }));
    assert.deepEqual(opcodes(synAck), [NEXTK2]);
    script.server.through('in', synAck);
    const { delivered } = script.carry('server', { offset: 1, ack: 1, data: 'reversed', port: 3 });
    assert.equal(text(delivered[0]!), 'reversed');
  });
});

describe('trust domain (wire.md section 7)', () => {
  const key = (fill: number, offered = true) => ({ key: new Uint8Array(32).fill(fill), offered });
  const required = testPolicy({ authentication: 'Required' });

  it('a common key authenticates, the newest that both hold', () => {
    const script = new Script({ client: { trustKeys: [key(2), key(1)] }, server: { trustKeys: [key(1)] } });
    script.encrypt();
    assert.ok(only(script.client).authenticated && only(script.server).authenticated);
    assert.equal(only(script.client).sessionId, only(script.server).sessionId);
  });

  it('without a common key the session is unauthenticated', () => {
    const script = new Script({ client: { trustKeys: [key(2)] }, server: { trustKeys: [key(1)] } });
    script.encrypt();
    assert.equal(only(script.server).authenticated, false);
  });

  it('Required refuses an unauthenticated peer, at either end, with a reset', () => {
    const s = new Script({ server: { policy: required, trustKeys: [key(1)] } });
    assert.equal(s.server.fate('in', s.toInit1()), 'drop');
    assert.equal(flagsOf(s.server.sent('network')[0]!) & RST, RST);
    assert.equal(s.server.decided[0]!.outcome, 'refused');
    const c = new Script({ client: { policy: required, trustKeys: [key(1)] } });
    c.server.through('in', c.toInit1());
    c.client.give('in', c.server.sent('network')[0]!);
    assert.equal(c.client.decided[0]!.outcome, 'refused');
    assert.equal(flagsOf(c.client.sent('kernel')[0]!) & RST, RST);
  });

  it('a wrong confirmation means reset, never plain, and lists nothing', () => {
    const script = new Script({ client: { trustKeys: [key(1)] }, server: { trustKeys: [key(1)] } });
    script.server.through('in', script.toInit1());
    const init2 = script.server.sent('network')[0]!;
    const payload = payloadOf(init2).slice();
    payload[payload.length - 1]! ^= 1;
    script.client.give('in', buildSegment(init2, { ...fieldsOf(init2), payload }));
    assert.equal(script.client.decided[0]!.outcome, 'refused');
    assert.ok(!script.client.rewriter.negative.has('10.0.0.2', script.client.now));
  });
});

describe('limits', () => {
  it('a flood of SYNs with CRYPT is bounded, and what is over the limit is plain', () => {
    const end = new End({ limits: { maxSetups: 10 } });
    const script = new Script();
    for (let port = 1; port <= 50; port++) {
      const options = [cryptOption(raw(), EXPERIMENTAL)];
      end.fate('in', script.c({ flags: SYN, port, options }));
    }
    assert.equal(end.rewriter.syns.size, 10);
    assert.equal(end.decided.at(-1)!.connection.reason, 'resource_limit');
    end.pass(75_000);
    assert.equal(end.rewriter.syns.size, 0);
  });

  it('a connection that is set up is no half-open one any more, encrypted or plain', () => {
    const limits = { maxSetups: 3 };
    const policy = testPolicy({}, { sessionCache: { enabled: false, maxEntries: 0, lifetimeMs: 0 } });
    const script = new Script({ client: { limits, policy }, server: { limits, policy } });
    for (let port = 1; port <= 10; port++) {
      script.encrypt(port);
      script.carry('client', { offset: 1, ack: 1, data: 'x', port });
    }
    assert.equal(script.server.decided.length, 10);
    assert.ok(script.server.decided.every((each) => each.outcome === 'encrypted'));
    script.syns(11);
    script.server.through('in', script.c({ offset: 1, ack: 1, port: 11 }));
    assert.equal(script.server.decided.at(-1)!.outcome, 'plain');
    assert.equal(script.server.rewriter.syns.size, 0);
  });

  it('holds no more packets than its limit', () => {
    const script = new Script({ client: { limits: { maxHeldPackets: 3 } } });
    script.toInit1();
    const fates = [1, 2, 3, 4].map((n) =>
      script.client.fate('out', script.c({ offset: n, ack: 1, data: 'x' })),
    );
    assert.deepEqual(fates, ['held', 'held', 'held', 'drop']);
  });
});
