/** Hostile input: a peer that lies in each field, and packets that are nothing at all. Nothing throws, nothing leaks. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { buildSegment, fieldsOf } from '../wire/build.ts';
import { FIN, type Packet, PSH, parsePacket, payloadOf, RST, SYN, URG } from '../wire/packet.ts';
import { only, Script, testPolicy, text } from './testing.ts';

const flipped = (p: Packet, at: number, by: number): Packet => {
  const payload = payloadOf(p).slice();
  payload[at]! ^= by;
  return buildSegment(p, { ...fieldsOf(p), payload });
};

describe('a peer that lies', () => {
  for (const id of [0x210, 0x202, 0x200]) {
    const policy = testPolicy(
      {},
      { keyExchanges: [id], sessionCache: { enabled: false, maxEntries: 0, lifetimeMs: 0 } },
    );
    const options = { client: { policy }, server: { policy } };

    it(`in each byte of INIT1 (0x${id.toString(16)}): declined, or keys that differ, so that nothing verifies`, () => {
      const length = payloadOf(new Script(options).toInit1()).length;
      const step = id === 0x202 ? 1 : 13;
      for (let at = 0; at < length; at += step) {
        const script = new Script(options);
        script.server.give('in', flipped(script.toInit1(), at, 1 << (at % 8)));
        const [answer] = script.server.sent('network');
        if (!answer) continue;
        script.client.give('in', answer);
        for (const ack of script.client.sent('network')) script.server.give('in', ack);
        assert.notEqual(only(script.server).state, 'encrypted', `byte ${at}`);
      }
    });

    it(`in each byte of INIT2 (0x${id.toString(16)}): dropped, or nothing verifies`, () => {
      const probe = new Script(options);
      probe.server.through('in', probe.toInit1());
      const length = payloadOf(probe.server.sent('network')[0]!).length;
      const step = id === 0x202 ? 1 : 13;
      for (let at = 0; at < length; at += step) {
        const script = new Script(options);
        script.server.through('in', script.toInit1());
        script.client.give('in', flipped(script.server.sent('network')[0]!, at, 1 << (at % 8)));
        for (const ack of script.client.sent('network')) script.server.give('in', ack);
        assert.notEqual(only(script.server).state, 'encrypted', `byte ${at}`);
      }
    });
  }

  it('in the lengths: INIT1 cut short or drawn out at every length', () => {
    const whole = payloadOf(new Script().toInit1()).length;
    for (let length = 1; length < whole + 3; length++) {
      if (length === whole) continue;
      const script = new Script();
      const init1 = script.toInit1();
      const payload = new Uint8Array(length);
      payload.set(payloadOf(init1).subarray(0, length));
      script.server.give('in', buildSegment(init1, { ...fieldsOf(init1), payload }));
      assert.equal(only(script.server).reason, 'malformed', `length ${length}`);
    }
  });
});

/** A segment of the right 4-tuple with arbitrary numbers, flags, options and data. */
const segments = fc.record({
  fromClient: fc.boolean(),
  in: fc.boolean(),
  offset: fc.oneof(fc.integer({ min: -3, max: 400 }), fc.integer({ min: 0, max: 0xffff_ffff })),
  ack: fc.option(fc.oneof(fc.integer({ min: 0, max: 400 }), fc.integer({ min: 0, max: 0xffff_ffff })), {
    nil: undefined,
  }),
  flags: fc.constantFrom(0, SYN, FIN, RST, PSH, URG, SYN | FIN, SYN | RST, FIN | PSH),
  options: fc.uint8Array({ maxLength: 40 }).map((bytes) => bytes.slice(0, bytes.length & ~3)),
  ours: fc.boolean(),
  data: fc.uint8Array({ maxLength: 60 }),
});

describe('anything at all', () => {
  const phases: Record<string, (script: Script) => void> = {
    nothing: () => {},
    'syn sent': (script) => void script.client.through('out', script.c({ flags: SYN })),
    'syns exchanged': (script) => void script.syns(),
    'INIT1 sent': (script) => void script.toInit1(),
    'INIT1 accepted': (script) => void script.server.through('in', script.toInit1()),
    encrypted: (script) => void script.encrypt(),
  };
  for (const [phase, prepare] of Object.entries(phases)) {
    it(`with ${phase}: each packet gets one verdict or is held; an encrypted stream stays as it was`, () => {
      fc.assert(
        fc.property(fc.array(segments, { maxLength: 12 }), (list) => {
          const script = new Script();
          prepare(script);
          for (const s of list) {
            // Our own kernel does not lie: towards the network only what a kernel may send, from the peer anything.
            const end = s.fromClient ? script.server : script.client;
            const fields = { offset: s.offset, ack: s.ack, flags: s.flags, data: s.data };
            const base = s.fromClient ? script.c(fields) : script.s(fields);
            const options = s.options.slice();
            if (s.ours && options.length >= 4)
              options.set([253, options.length, 0x54, options.length > 20 ? 0x4d : 0x43]);
            const p = buildSegment(base, { ...fieldsOf(base), options });
            const token = end.give('in', p, s.in ? 'tcpcrypt' : 'none');
            assert.ok(end.verdicts.has(token));
          }
          if (phase !== 'encrypted') return;
          assert.equal(only(script.client).state, 'encrypted');
          const { delivered } = script.carry('client', { offset: 1, ack: 1, data: 'still right' });
          assert.equal(text(delivered.at(-1)!), 'still right');
        }),
        { numRuns: 400 },
      );
    });
  }

  it('bytes that are no packet, or hardly', () => {
    const script = new Script();
    const { init1 } = script.encrypt();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.nat(), fc.boolean(), (junk, at, whole) => {
        const bytes = whole ? junk : init1.bytes.slice();
        if (!whole) for (let i = 0; i < junk.length; i += 9) bytes[(at + i) % bytes.length] = junk[i]!;
        for (const direction of ['in', 'out'] as const) {
          script.server.rewriter.handle(direction, bytes.slice(), at, 'tcpcrypt', 1);
        }
        if (whole && typeof parsePacket(junk) === 'string' && parsePacket(junk) !== 'not_tcp') {
          assert.deepEqual(script.server.verdicts.get(at), { kind: 'drop' });
        }
      }),
      { numRuns: 3000 },
    );
  });
});
