/** wire.md section 4, "Encrypting", and section 5, "Re-keying". */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { suites } from '../crypto/asm.ts';
import { buildSegment, fieldsOf } from '../wire/build.ts';
import { parseIcmpError } from '../wire/icmp.ts';
import { cryptOption, layoutCompact, parseOptions, sackOption } from '../wire/options.ts';
import {
  ackNumber,
  FIN,
  flagsOf,
  optionBytes,
  type Packet,
  payloadOf,
  RST,
  SYN,
  seqNumber,
  URG,
  urgentOf,
} from '../wire/packet.ts';
import { parseSuboptions, REKEY, SYNC_OK, SYNC_REQ, UNKNOWN, uint32Bytes } from '../wire/suboptions.ts';
import { makeIcmpError } from '../wire/testing.ts';
import { decode, encode } from './checkpoint.ts';
import type { Connection } from './connection.ts';
import { sealOwn } from './seal.ts';
import type { End } from './testing.ts';
import { MemoryStore, only, Script, testPolicy, text } from './testing.ts';

const EXPERIMENTAL = { write: 'experimental', readBoth: false } as const;
const optionsOf = (p: Packet) => {
  const options = parseOptions(optionBytes(p), EXPERIMENTAL);
  if (options === 'malformed') throw new Error('malformed options');
  return options;
};
const suboptions = (p: Packet) => {
  const parsed = parseSuboptions(optionsOf(p).crypt);
  if (parsed === 'malformed') throw new Error('malformed CRYPT');
  return parsed.list;
};
const connectionOf = (end: End): Connection => [...end.rewriter.table.values()][0]!;
const encrypted = (options?: ConstructorParameters<typeof Script>[0]) => {
  const script = new Script(options);
  const { init1, init2 } = script.encrypt();
  return { script, init1Length: payloadOf(init1).length, init2Length: payloadOf(init2).length };
};

describe('segments', () => {
  it('a retransmission has the same ciphertext, however it is cut', () => {
    const { script } = encrypted();
    const whole = payloadOf(
      script.carry('client', { offset: 1, ack: 1, data: 'abcdefghijklmnopqrstuvwxyz' }).wire[0]!,
    );
    const tail = payloadOf(script.carry('client', { offset: 11, ack: 1, data: 'klmnopqrstuvwxyz' }).wire[0]!);
    assert.deepEqual(tail, whole.slice(10));
  });

  it('a change of any bit that is covered is found; the segment is dropped', () => {
    const { script } = encrypted();
    const [p] = [script.client.through('out', script.c({ offset: 1, ack: 1, data: 'x' }))];
    const f = fieldsOf(p);
    const forged = [
      { ...f, seq: f.seq + 1 },
      { ...f, ack: f.ack + 1 },
      { ...f, flags: f.flags | FIN },
      { ...f, window: f.window + 1 },
      { ...f, urgent: 1 },
      { ...f, payload: Uint8Array.of(payloadOf(p)[0]! ^ 1) },
      { ...f, options: new Uint8Array(0) },
    ];
    for (const fields of forged) assert.equal(script.server.fate('in', buildSegment(p, fields)), 'drop');
    assert.equal(text(script.server.through('in', p)), 'x');
  });

  it('a segment whose TCP checksum is wrong is dropped, for timestamps are outside the MAC', () => {
    const { script } = encrypted();
    const p = script.client.through('out', script.c({ offset: 1, ack: 1, data: 'x' }));
    const bytes = p.bytes.slice();
    bytes[p.tcp + 20 + 3]! ^= 0x40;
    assert.equal(script.server.fate('in', { ...p, bytes }), 'drop');
    assert.equal(script.server.drops.at(-1), 'checksum');
  });

  it('two MAC options never verify', () => {
    const { script } = encrypted();
    const p = script.client.through('out', script.c({ offset: 1, ack: 1 }));
    const mac = optionBytes(p).subarray(10, 30);
    const two = buildSegment(p, { ...fieldsOf(p), options: layoutCompact([mac, mac])! });
    assert.equal(script.server.fate('in', two), 'drop');
  });

  it('timestamps may be rewritten on the way', () => {
    const { script } = encrypted();
    const p = script.client.through('out', script.c({ offset: 1, ack: 1, data: 'x' }));
    const options = optionBytes(p).slice();
    options.fill(7, 2, 10);
    assert.equal(text(script.server.through('in', buildSegment(p, { ...fieldsOf(p), options }))), 'x');
  });

  it('sequence numbers wrap past 2^32, and offsets go on', () => {
    const { script } = encrypted({ isnClient: 0xffff_fff0, isnServer: 0xffff_ff00 });
    for (let n = 0; n < 8; n++) {
      const { delivered } = script.carry('client', {
        offset: 1 + 50 * n,
        ack: 1 + 40 * n,
        data: 'a'.repeat(50),
      });
      assert.equal(text(delivered[0]!), 'a'.repeat(50));
      const back = script.carry('server', { offset: 1 + 40 * n, ack: 51 + 50 * n, data: 'b'.repeat(40) });
      assert.equal(text(back.delivered[0]!), 'b'.repeat(40));
    }
    const far = connectionOf(script.client);
    const server = connectionOf(script.server);
    far.txNext += 2 ** 33;
    far.txAcked += 2 ** 33;
    server.rxNext += 2 ** 33;
    const { delivered } = script.carry('client', { offset: 401, ack: 321, data: 'beyond 8 GiB' });
    assert.equal(text(delivered[0]!), 'beyond 8 GiB');
  });

  it('SACK edges are translated both ways, into each kernel’s numbers', () => {
    const { script, init1Length } = encrypted();
    script.carry('client', { offset: 1, ack: 1, data: 'a'.repeat(100) });
    const edges: [number, number][] = [[script.isnClient + 51, script.isnClient + 101]];
    const { wire, delivered } = script.carry('server', { offset: 1, ack: 1, options: [sackOption(edges)] });
    assert.deepEqual(optionsOf(wire[0]!).sack, [[edges[0]![0] + init1Length, edges[0]![1] + init1Length]]);
    assert.deepEqual(optionsOf(delivered[0]!).sack, edges);
    assert.equal(optionBytes(wire[0]!).length, 40, 'exactly one block fits beside timestamps and MAC');
  });

  it('keeps the first SACK block only, where more do not fit', () => {
    const { script } = encrypted();
    const edges: [number, number][] = [
      [script.isnClient + 51, script.isnClient + 60],
      [script.isnClient + 11, script.isnClient + 20],
    ];
    const { delivered } = script.carry('server', { offset: 1, ack: 1, options: [sackOption(edges)] });
    assert.deepEqual(optionsOf(delivered[0]!).sack, [edges[0]]);
  });

  it('hands options to the kernel aligned as Linux writes them', () => {
    const { script } = encrypted();
    const { delivered } = script.carry('client', { offset: 1, ack: 1, data: 'x' });
    assert.deepEqual([...optionBytes(delivered[0]!).subarray(0, 4)], [1, 1, 8, 10]);
    assert.equal(optionBytes(delivered[0]!).length, 12);
  });

  it('urgent data keeps its pointer', () => {
    const { script } = encrypted();
    const { delivered } = script.carry('client', { offset: 1, ack: 1, data: 'abc', flags: URG, urgent: 2 });
    assert.equal(flagsOf(delivered[0]!) & URG, URG);
    assert.equal(urgentOf(delivered[0]!), 2);
  });

  it('half-close, then the other direction, FIN by FIN, and the answer of TIME-WAIT', () => {
    const { script } = encrypted();
    const fin = script.carry('client', { offset: 1, ack: 1, flags: FIN }).delivered[0]!;
    assert.equal(flagsOf(fin) & FIN, FIN);
    assert.equal(
      text(script.carry('server', { offset: 1, ack: 2, data: 'still here' }).delivered[0]!),
      'still here',
    );
    script.carry('client', { offset: 2, ack: 11 });
    script.carry('server', { offset: 11, ack: 2, flags: FIN });
    const last = script.carry('client', { offset: 2, ack: 12 });
    assert.equal(ackNumber(last.delivered[0]!), script.isnServer + 12);
    assert.equal(optionsOf(last.wire[0]!).macs, 1);
  });

  it('a segment larger than our link is split, its FIN on the last', () => {
    const policy = testPolicy({}, { suites: [0x600, 0x100, 0x400, 0x500, 0x300] });
    const { script } = encrypted({ client: { policy } });
    const { wire, delivered } = script.carry('client', {
      offset: 1,
      ack: 1,
      data: 'z'.repeat(1460),
      flags: FIN,
    });
    assert.equal(wire.length, 2);
    for (const p of wire) assert.ok(p.bytes.length <= 1500);
    assert.equal(delivered.map(text).join(''), 'z'.repeat(1460));
    assert.deepEqual(
      delivered.map((p) => flagsOf(p) & FIN),
      [0, FIN],
    );
  });
});

describe('what the peer has acknowledged leaves no more', () => {
  it('a keep-alive with a garbage byte leaves without it, one below', () => {
    const { script, init1Length } = encrypted();
    script.carry('client', { offset: 1, ack: 1, data: 'hello' });
    script.carry('server', { offset: 1, ack: 6 });
    const { wire, delivered } = script.carry('client', { offset: 5, ack: 1, data: '\0' });
    assert.equal(payloadOf(wire[0]!).length, 0);
    assert.equal(seqNumber(wire[0]!), script.isnClient + 5 + init1Length);
    assert.equal(seqNumber(delivered[0]!), script.isnClient + 5);
  });

  it('a keep-alive before any data reaches the kernel one below the first byte', () => {
    const { script } = encrypted();
    const { delivered } = script.carry('client', { offset: 0, ack: 1 });
    assert.equal(seqNumber(delivered[0]!), script.isnClient);
  });

  it('acknowledged bytes are taken out of a segment, and the urgent pointer lowered', () => {
    const { script } = encrypted();
    script.carry('client', { offset: 1, ack: 1, data: 'abcd' });
    script.carry('server', { offset: 1, ack: 5 });
    const { delivered } = script.carry('client', {
      offset: 1,
      ack: 1,
      data: 'abcdEFGH',
      flags: URG,
      urgent: 6,
    });
    assert.equal(text(delivered[0]!), 'EFGH');
    assert.equal(urgentOf(delivered[0]!), 2);
  });

  it('a zero-window probe passes as it is', () => {
    const { script } = encrypted();
    script.carry('client', { offset: 1, ack: 1, data: 'abcd' });
    script.carry('server', { offset: 1, ack: 5 });
    const { delivered } = script.carry('client', { offset: 4, ack: 1 });
    assert.equal(seqNumber(delivered[0]!), script.isnClient + 4);
    assert.equal(text(script.carry('client', { offset: 5, ack: 1, data: 'E' }).delivered[0]!), 'E');
  });
});

describe('RST and SYN', () => {
  it('an RST without MAC goes to the kernel in its numbers; with rstCheck it is dropped', () => {
    const { script, init2Length } = encrypted();
    const rst = script.s({ offset: 1 + init2Length, flags: RST });
    assert.equal(seqNumber(script.client.through('in', rst)), script.isnServer + 1);
    const checked = encrypted({ client: { policy: testPolicy({}, { rstCheck: true }) } });
    assert.equal(
      checked.script.client.fate('in', checked.script.s({ offset: 1 + checked.init2Length, flags: RST })),
      'drop',
    );
    const real = checked.script.carry('server', { offset: 1, ack: 1, flags: RST }).delivered[0]!;
    assert.equal(flagsOf(real) & RST, RST, 'one with MAC passes');
  });

  it('a SYN for a live 4-tuple proves nothing: the kernel’s challenge ACK leaves under the old keys', () => {
    const { script } = encrypted();
    const foreign = script.c({ flags: SYN, offset: 123_456 });
    assert.equal(script.server.through('in', foreign), foreign);
    assert.equal(optionsOf(script.carry('server', { offset: 1, ack: 1 }).wire[0]!).macs, 1);
    assert.equal(text(script.carry('client', { offset: 1, ack: 1, data: 'alive' }).delivered[0]!), 'alive');
  });

  it('a connection that conntrack forgot gets its mark back by whatever SYN comes', () => {
    const { script } = encrypted();
    for (const [end, direction, p] of [
      [script.server, 'in', script.c({ flags: SYN, offset: 123_456 })],
      [script.client, 'in', script.s({ flags: SYN, offset: 0, ack: 1 })],
      [script.client, 'in', script.s({ flags: SYN, offset: 7, ack: 1 })],
    ] as const) {
      assert.equal(end.markOf(end.give(direction, p, 'none')), 'tcpcrypt');
    }
  });

  it('a segment of a connection that conntrack forgot goes on afresh, but not to a socket of one interface', () => {
    const { script } = encrypted();
    const { client, server } = script;
    const verdict = (end: typeof client, direction: 'in' | 'out', p: Packet) => {
      const given = end.verdicts.get(end.give(direction, p, 'none'));
      return given?.kind === 'accept' ? given : assert.fail('dropped');
    };
    const data = script.c({ offset: 1, ack: 1, data: 'x' });
    const out = verdict(client, 'out', data);
    assert.deepEqual([out.mark, out.afresh], ['tcpcrypt', true]);
    const wire = client.through('out', data);
    assert.equal(verdict(server, 'in', wire).afresh, true);
    assert.equal(
      verdict(server, 'in', script.c({ flags: SYN, offset: 9 })).afresh,
      undefined,
      'makes an entry',
    );
    const [{ local, remote }] = [...server.rewriter.connections()];
    server.rewriter.reconcile([{ local, remote, state: 1, sendQueueBytes: 0, boundToInterface: true }], 2000);
    const bound = verdict(server, 'in', client.through('out', data));
    assert.deepEqual([bound.mark, bound.afresh], ['tcpcrypt', undefined]);
  });

  it('the kernel’s SYN-ACK that acknowledges the new SYN begins a new connection', () => {
    const { script } = encrypted();
    script.carry('server', { offset: 1, ack: 1 });
    const syn = script.client.through('out', script.c({ flags: SYN, offset: 70_000 }));
    script.server.through('in', syn);
    const synAck = script.server.through('out', script.s({ flags: SYN, offset: 80_000, ack: 70_001 }));
    script.client.through('in', synAck);
    assert.equal(only(script.server).handshake, 'cached');
    assert.equal(only(script.client).handshake, 'cached');
    const data = script.client.through('out', script.c({ offset: 70_001, ack: 80_001, data: 'new' }));
    assert.equal(text(script.server.through('in', data)), 'new');
  });

  it('a plain SYN that the kernel accepts over an old connection begins a plain one', () => {
    const { script } = encrypted();
    script.server.through('in', script.c({ flags: SYN, offset: 70_000 }));
    const answer = script.s({ flags: SYN, offset: 80_000, ack: 70_001 });
    const token = script.server.give('out', answer);
    assert.equal(script.server.markOf(token), 'plain');
    assert.equal(only(script.server).state, 'plain');
  });

  it('a marked segment whose keys are gone resets its sender and goes no further', () => {
    const { script } = encrypted();
    const p = script.client.through('out', script.c({ offset: 1, ack: 1, data: 'x' }));
    const late = new Script();
    late.server.rewriter.handle('in', p.bytes, 99, 'tcpcrypt', 1);
    assert.deepEqual(late.server.verdicts.get(99), { kind: 'drop' });
    const [reset] = late.server.sent('network');
    assert.equal(seqNumber(reset!), ackNumber(p));
    late.server.rewriter.handle(
      'out',
      script.s({ offset: 1, ack: 1, data: 'secret' }).bytes,
      100,
      'tcpcrypt',
      1,
    );
    assert.deepEqual(late.server.verdicts.get(100), { kind: 'drop' });
    assert.equal(seqNumber(late.server.sent('kernel')[0]!), script.isnClient + 1);
  });
});

describe('suboptions', () => {
  const ask = (script: Script, opcode: number, data: Uint8Array): Packet => {
    script.carry('client', { offset: 1, ack: 1 });
    return sealOwn(script.client.rewriter, connectionOf(script.client), [{ opcode, data }]);
  };

  it('SYNC_REQ is answered by SYNC_OK, once a clock value', () => {
    const { script } = encrypted();
    const request = ask(script, SYNC_REQ, uint32Bytes(77));
    script.carry('server', { offset: 1, ack: 1 });
    script.server.through('in', request);
    const [reply] = script.server.sent('network');
    assert.deepEqual(
      suboptions(reply!).map((each) => [each.opcode, [...each.data]]),
      [[SYNC_OK, [0, 0, 0, 77]]],
    );
    script.client.through('in', reply!);
    script.server.through('in', request);
    assert.deepEqual(script.server.sent('network'), []);
  });

  it('an unknown mandatory suboption is answered by UNKNOWN and changes nothing', () => {
    const { script } = encrypted();
    script.server.through('in', ask(script, 0xc3, new Uint8Array(0)));
    const [reply] = script.server.sent('network');
    assert.deepEqual(
      suboptions(reply!).map((each) => [each.opcode, [...each.data]]),
      [[UNKNOWN, [0xc3]]],
    );
    assert.equal(text(script.carry('client', { offset: 1, ack: 1, data: 'on' }).delivered[0]!), 'on');
  });

  it('suboptions of setup, REKEYSTREAM and IV under a valid MAC are ignored; the segment counts', () => {
    for (const [opcode, data] of [
      [0x04, []],
      [0x07, []],
      [0x83, [1, 0, 0, 0, 0]],
      [0x85, []],
    ] as const) {
      const { script } = encrypted();
      assert.equal(typeof script.server.fate('in', ask(script, opcode, Uint8Array.from(data))), 'object');
      assert.equal(only(script.server).state, 'encrypted');
    }
  });
});

describe('re-keying', () => {
  const policy = testPolicy({}, { rekey: { afterBytes: 100, afterMs: Number.POSITIVE_INFINITY } });
  const labelOf = (p: Packet) => suboptions(p).find((each) => each.opcode === REKEY)?.data[0];

  it('labels until the first byte of the generation is acknowledged under it; the follower until it hears no label', () => {
    const { script } = encrypted({ client: { policy } });
    script.carry('client', { offset: 1, ack: 1, data: 'a'.repeat(200) });
    const first = script.carry('client', { offset: 201, ack: 1, data: 'bbbb' });
    assert.equal(labelOf(first.wire[0]!), 1);
    assert.equal(text(first.delivered[0]!), 'bbbb');
    const ack = script.carry('server', { offset: 1, ack: 205 });
    assert.equal(labelOf(ack.wire[0]!), 1, 'the follower labels');
    const next = script.carry('client', { offset: 205, ack: 1, data: 'cc' });
    assert.equal(labelOf(next.wire[0]!), undefined, 'the initiator is done');
    assert.equal(
      labelOf(script.carry('server', { offset: 1, ack: 207 }).wire[0]!),
      undefined,
      'the follower is done',
    );
    assert.equal(connectionOf(script.client).secured!.generations.live.length <= 2, true);
  });

  it('a byte keeps its generation: a retransmission across the boundary is split, each part as it was', () => {
    const { script } = encrypted({ client: { policy } });
    const old = script.carry('client', { offset: 1, ack: 1, data: 'a'.repeat(200) }).wire[0]!;
    const fresh = script.client.through('out', script.c({ offset: 201, ack: 1, data: 'b'.repeat(50) }));
    const merged = script.c({ offset: 101, ack: 1, data: 'a'.repeat(100) + 'b'.repeat(50) });
    const last = script.client.through('out', merged);
    const parts = [...script.client.sent('network'), last];
    assert.equal(parts.length, 2);
    assert.deepEqual(parts.map(labelOf), [0, 1], 'an older generation is always labelled');
    assert.deepEqual(payloadOf(parts[0]!), payloadOf(old).slice(100));
    assert.deepEqual(payloadOf(parts[1]!), payloadOf(fresh));
    assert.equal(
      parts.map((p) => text(script.server.through('in', p))).join(''),
      'a'.repeat(100) + 'b'.repeat(50),
    );
  });

  it('both ends may begin at once', () => {
    const { script } = encrypted({ client: { policy }, server: { policy } });
    script.carry('client', { offset: 1, ack: 1, data: 'a'.repeat(150) });
    script.carry('server', { offset: 1, ack: 1, data: 'b'.repeat(150) });
    const c = script.client.through('out', script.c({ offset: 151, ack: 1, data: 'cccc' }));
    const s = script.server.through('out', script.s({ offset: 151, ack: 1, data: 'ssss' }));
    assert.equal(text(script.server.through('in', c)), 'cccc');
    assert.equal(text(script.client.through('in', s)), 'ssss');
    for (let n = 0; n < 3; n++) {
      script.carry('client', { offset: 155, ack: 155 });
      script.carry('server', { offset: 155, ack: 155 });
    }
    assert.equal(labelOf(script.client.through('out', script.c({ offset: 155, ack: 155 }))), undefined);
    assert.equal(connectionOf(script.client).secured!.generations.txNumber, 1);
  });

  it('hundreds of generations, beyond the label’s 256', () => {
    const { script } = encrypted({ client: { policy } });
    let offset = 1;
    for (let n = 0; n < 300; n++) {
      const data = String.fromCharCode(97 + (n % 26)).repeat(110);
      assert.equal(text(script.carry('client', { offset, ack: 1, data }).delivered[0]!), data);
      offset += 110;
      script.carry('server', { offset: 1, ack: offset });
      script.carry('client', { offset, ack: 1 });
    }
    const { generations } = connectionOf(script.server).secured!;
    assert.ok(generations.rxNumber > 256);
    assert.ok(generations.live.length <= 3, 'old generations are erased');
  });

  it('a label more than one above what is known is dropped', () => {
    const { script } = encrypted();
    const p = script.client.through('out', script.c({ offset: 1, ack: 1 }));
    const options = layoutCompact([
      optionBytes(p).slice(10, 30),
      cryptOption(Uint8Array.of(REKEY, 2), EXPERIMENTAL),
    ])!;
    assert.equal(script.server.fate('in', buildSegment(p, { ...fieldsOf(p), options })), 'drop');
    assert.equal(connectionOf(script.server).secured!.generations.live.length, 1);
  });
});

describe('ICMP errors', () => {
  it('fragmentation needed comes to the kernel in its numbers and without what we add', () => {
    const { script } = encrypted();
    const wire = script.client.through('out', script.c({ offset: 1, ack: 1, data: 'x'.repeat(1000) }));
    const error = makeIcmpError({
      router: '10.9.9.9',
      type: 3,
      code: 4,
      quoted: wire,
      quotedBytes: 28,
      mtu: 1000,
    });
    script.client.rewriter.handle('in', error, 500, 'tcpcrypt', 1);
    const verdict = script.client.verdicts.get(500)!;
    assert.ok(verdict.kind === 'accept' && verdict.bytes);
    const translated = parseIcmpError(verdict.bytes)!;
    assert.equal(translated.quoted.seq, script.isnClient + 1);
    assert.equal(translated.mtu, 1000 - 28);
  });

  it('below what IPv6 accepts, the rewriter splits by itself', () => {
    const { script } = encrypted({ version: 6 });
    const wire = script.client.through('out', script.c({ offset: 1, ack: 1, data: 'x'.repeat(1300) }));
    const error = makeIcmpError({ router: 'fd00::9', type: 2, code: 0, quoted: wire, mtu: 1280 });
    script.client.rewriter.handle('in', error, 500, 'tcpcrypt', 1);
    const verdict = script.client.verdicts.get(500)!;
    assert.ok(verdict.kind === 'accept' && verdict.bytes);
    assert.equal(parseIcmpError(verdict.bytes)!.mtu, 1280);
    assert.equal(connectionOf(script.client).cutsHere, true, 'super-segments would be cut by the kernel');
    const { wire: pieces, delivered } = script.carry('client', { offset: 1, ack: 1, data: 'x'.repeat(1208) });
    for (const p of pieces) assert.ok(p.bytes.length <= 1280);
    assert.equal(delivered.map(text).join(''), 'x'.repeat(1208));
  });

  it('an error about what is not in flight is dropped', () => {
    const { script } = encrypted();
    const wire = script.client.through('out', script.c({ offset: 1, ack: 1, data: 'x' }));
    const stray = buildSegment(wire, { ...fieldsOf(wire), seq: seqNumber(wire) + 100_000 });
    const error = makeIcmpError({ router: '10.9.9.9', type: 3, code: 4, quoted: stray, mtu: 600 });
    script.client.rewriter.handle('in', error, 500, 'tcpcrypt', 1);
    assert.deepEqual(script.client.verdicts.get(500), { kind: 'drop' });
  });

  it('one that quotes INIT1 returns to plain at once, and the large exchange is avoided next time', () => {
    const policy = testPolicy({}, { keyExchanges: [0x210, 0x202] });
    const script = new Script({ client: { policy }, server: { policy } });
    const init1 = script.toInit1(1);
    const error = makeIcmpError({ router: '10.9.9.9', type: 3, code: 4, quoted: init1, mtu: 1000 });
    script.client.rewriter.handle('in', error, 500, 'tcpcrypt', 1);
    assert.equal(only(script.client).state, 'plain');
    script.client.sent('network');
    assert.ok(payloadOf(script.toInit1(2)).length < 300);
  });
});

describe('restart', () => {
  const restart = (script: Script, end: End, store: MemoryStore, sent: number, received: number): void => {
    const { local, remote } = only(end);
    const socket = { local, remote, state: 1, bytesAcked: sent, bytesReceived: received, sendQueueBytes: 0 };
    const fresh = new Script({ client: { store } }).client;
    assert.equal(fresh.rewriter.restore([...store.records], [socket], 1), 1);
    (script as { client: End }).client = fresh;
  };

  it('a connection goes on after its rewriter was killed, re-keyed and all, and nothing leaves in clear', () => {
    const store = new MemoryStore();
    const policy = testPolicy({}, { rekey: { afterBytes: 100, afterMs: Number.POSITIVE_INFINITY } });
    const { script } = encrypted({ client: { store, policy } });
    script.carry('client', { offset: 1, ack: 1, data: 'a'.repeat(150) });
    const before = script.client.through('out', script.c({ offset: 151, ack: 1, data: 'lost on the way' }));
    restart(script, script.client, store, 151, 0);
    const again = script.carry('client', { offset: 151, ack: 1, data: 'lost on the way' });
    assert.deepEqual(payloadOf(again.wire[0]!), payloadOf(before), 'the same ciphertext');
    assert.equal(text(again.delivered[0]!), 'lost on the way');
    assert.equal(
      text(script.carry('server', { offset: 1, ack: 166, data: 'and back' }).delivered[0]!),
      'and back',
    );
    assert.equal(only(script.client).state, 'encrypted');
  });

  it('the record is there before the first segment that needs it', () => {
    const store = new MemoryStore();
    const script = new Script({ server: { store } });
    script.server.through('in', script.toInit1());
    assert.equal(script.server.sent('network').length, 1);
    assert.equal(store.records.size, 1);
  });

  it('a record taken back makes the same record', () => {
    const store = new MemoryStore();
    const { script } = encrypted({ server: { store } });
    script.carry('client', { offset: 1, ack: 1, data: 'abc' });
    const plain = new Script({ server: { store } });
    plain.syns(40_001);
    plain.server.through('in', plain.c({ offset: 1, ack: 1, port: 40_001 }));
    assert.equal(store.records.size, 2);
    for (const record of store.records.values()) {
      const c = decode(record, suites)!;
      assert.equal(typeof c.key, 'string');
      assert.deepEqual(
        JSON.parse(Buffer.from(encode(c)).toString()),
        JSON.parse(Buffer.from(record).toString()),
      );
    }
  });

  it('a record whose socket is gone is dropped; damaged ones are ignored; a fallback erases its record', () => {
    const store = new MemoryStore();
    const { script } = encrypted({ client: { store } });
    const fresh = new Script({ client: { store } }).client;
    assert.equal(fresh.rewriter.restore([...store.records], [], 1), 0);
    assert.equal(store.records.size, 0);
    assert.equal(fresh.rewriter.restore([['00', Buffer.from('{"version":1}')]], [], 1), 0);
    assert.equal(only(script.client).state, 'encrypted');
    const server = new MemoryStore();
    const half = new Script({ server: { store: server } });
    half.server.through('in', half.toInit1());
    half.server.through('in', half.c({ offset: 1, ack: 1 }));
    assert.ok(!Buffer.from([...server.records.values()][0]!).includes('masterKey'));
    const again = new Script().server;
    const { local, remote } = only(half.server);
    again.rewriter.restore([...server.records], [{ local, remote, state: 1, sendQueueBytes: 0 }], 1);
    assert.equal(text(again.through('in', half.c({ offset: 1, ack: 1, data: 'plain' }))), 'plain');
  });

  it('state ends when the socket is gone', () => {
    const { script } = encrypted();
    const { local, remote } = only(script.client);
    script.client.rewriter.reconcile([{ local, remote, state: 1, sendQueueBytes: 0 }], 1);
    script.client.rewriter.reconcile([], 2);
    assert.equal(script.client.rewriter.counts().encrypted, 1);
    script.client.rewriter.reconcile([], 3);
    assert.equal(script.client.rewriter.counts().encrypted, 0);
  });
});
