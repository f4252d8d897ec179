import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import { kinds, parseKind } from './kinds.ts';
import { ACK, build, clone, FIN, PSH, parse, RST, SYN, type TcpOption, type TcpPacket } from './packet.ts';
import { Chain, generator } from './transformation.ts';

const CRYPT: TcpOption = { kind: 253, body: Buffer.from([0x54, 0x43]) };
const MSS: TcpOption = { kind: 2, body: Buffer.from([0x05, 0xb4]) };
const timestamps = (value: number, echo: number): TcpOption => {
  const body = Buffer.alloc(8);
  body.writeUInt32BE(value, 0);
  body.writeUInt32BE(echo, 4);
  return { kind: 8, body };
};

const ip = Buffer.from('450000280000400040060000' + '0a4d01010a4d0202', 'hex');
const CLIENT = { source: '0a4d0101', destination: '0a4d0202', sourcePort: 40000, destinationPort: 80 };
const SERVER = { source: '0a4d0202', destination: '0a4d0101', sourcePort: 80, destinationPort: 40000 };

function packet(side: typeof CLIENT, changes: Partial<TcpPacket>): TcpPacket {
  return {
    ip,
    ...side,
    seq: 0,
    ack: 0,
    flags: ACK,
    window: 1000,
    urgent: 0,
    options: [],
    data: Buffer.alloc(0),
    ...changes,
  };
}
const syn = (changes: Partial<TcpPacket> = {}) =>
  packet(CLIENT, { flags: SYN, seq: 1000, options: [MSS, CRYPT], ...changes });
const synAck = (changes: Partial<TcpPacket> = {}) =>
  packet(SERVER, { flags: SYN | ACK, seq: 5000, ack: 1001, options: [MSS, CRYPT], ...changes });
const up = (text: string, changes: Partial<TcpPacket> = {}) =>
  packet(CLIENT, { flags: ACK | PSH, seq: 1001, ack: 5001, data: Buffer.from(text), ...changes });
const down = (text: string, changes: Partial<TcpPacket> = {}) =>
  packet(SERVER, { flags: ACK | PSH, seq: 5001, ack: 1001, data: Buffer.from(text), ...changes });

const chain = (...names: string[]): Chain => new Chain(names.map(parseKind), generator(7));
const through = (box: Chain, sent: TcpPacket, now = 0): TcpPacket[] =>
  // Through bytes, as the kernel would have it.
  box.handle(parse(build(sent))!, now).map((each) => parse(build(each.packet))!);
const kindsOf = (sent: TcpPacket): number[] =>
  sent.options.map((option) => option.kind).filter((kind) => kind !== 1);

test('every kind has a name that parses, and passes a plain handshake', () => {
  for (const name of Object.keys(kinds)) {
    const box = chain(name === 'loss' || name === 'duplicate' ? `${name},percent=0` : name);
    const plain = through(box, syn({ options: [MSS] }));
    assert.ok(
      plain.some((each) => each.flags === SYN && each.destination === CLIENT.destination),
      name,
    );
  }
  assert.throws(() => parseKind('unheard-of'), /unheard-of/);
});

test('strip-options: from SYNs only, after the handshake only, or both', () => {
  const cases = { syn: [[2], [253]], established: [[2, 253], []], both: [[2], []] } as const;
  for (const [when, [inSyn, later]] of Object.entries(cases)) {
    const box = chain(`strip-options,when=${when}`);
    assert.deepEqual(kindsOf(through(box, syn())[0]), inSyn, when);
    const after = through(box, up('x', { options: [CRYPT] }))[0];
    assert.deepEqual(kindsOf(after), later, when);
    assert.equal(after.data.toString(), 'x');
  }
});

test('strip-options: one way', () => {
  const box = chain('strip-options,when=established,from=listener');
  assert.deepEqual(kindsOf(through(box, syn())[0]), [2, 253]);
  assert.deepEqual(kindsOf(through(box, up('x', { options: [CRYPT] }))[0]), [253]);
  assert.deepEqual(kindsOf(through(box, down('x', { options: [CRYPT] }))[0]), []);
});

test('strip-options,cut: half the data of a stripped segment goes on, the rest is gone', () => {
  const box = chain('strip-options,when=established,cut=yes');
  assert.equal(through(box, up('12345678', { options: [CRYPT] }))[0].data.toString(), '1234');
  assert.equal(through(box, up('12345678'))[0].data.toString(), '12345678');
  assert.equal(box.counters.cut, 1);
});

test('drop-options: SYNs; or later segments, both ways or one', () => {
  const syns = chain('drop-options,when=syn');
  assert.equal(through(syns, syn()).length, 0);
  assert.equal(through(syns, syn({ options: [MSS] })).length, 1);
  assert.equal(through(syns, up('x', { options: [CRYPT] })).length, 1);
  const one = chain('drop-options,when=established,from=opener');
  assert.equal(through(one, syn()).length, 1);
  assert.equal(through(one, up('x', { options: [CRYPT] })).length, 0);
  assert.equal(through(one, down('x', { options: [CRYPT] })).length, 1);
});

test('http-only: judges each direction by the bytes at its beginning', () => {
  const box = chain('http-only');
  through(box, syn());
  through(box, synAck());
  assert.equal(through(box, up('\x00\x00\x01\x00not HTTP')).length, 0);
  assert.equal(through(box, up('more', { seq: 1013 })).length, 0);
  assert.equal(through(box, up('GET / HTTP/1.1\r\n')).length, 1);
  assert.equal(through(box, up('Host: x\r\n', { seq: 1017 })).length, 1);
  assert.equal(through(box, down('\x00')).length, 0);
  assert.equal(through(box, down('HTTP/1.1 200 OK\r\n')).length, 1);
  assert.equal(through(box, up('', { data: Buffer.alloc(0) })).length, 1);
});

test('randomise-isn: numbers, acknowledgements and SACK edges move together', () => {
  const box = chain('randomise-isn');
  const [first] = through(box, syn());
  assert.notEqual(first.seq, 1000);
  assert.equal(first.ack, 0);
  const [answer] = through(box, synAck({ ack: (first.seq + 1) >>> 0 }));
  assert.equal(answer.ack, 1001, 'the opener must see its own number');
  const edges = Buffer.alloc(8);
  edges.writeUInt32BE((answer.seq + 11) >>> 0, 0);
  edges.writeUInt32BE((answer.seq + 21) >>> 0, 4);
  const [third] = through(box, up('x', { ack: (answer.seq + 1) >>> 0, options: [{ kind: 5, body: edges }] }));
  assert.equal(third.seq, (first.seq + 1) >>> 0);
  assert.equal(third.ack, 5001, 'the listener must see its own number');
  assert.deepEqual(
    [third.options[0].body.readUInt32BE(0), third.options[0].body.readUInt32BE(4)],
    [5011, 5021],
  );
});

test('strip-timestamps and rewrite-timestamps: the echo comes back as it was sent', () => {
  const strip = chain('strip-timestamps');
  assert.deepEqual(kindsOf(through(strip, syn({ options: [MSS, timestamps(7, 0)] }))[0]), [2]);
  const box = chain('rewrite-timestamps');
  const moved = through(box, syn({ options: [timestamps(7, 0)] }))[0].options[0].body;
  assert.notEqual(moved.readUInt32BE(0), 7);
  assert.equal(moved.readUInt32BE(4), 0);
  const answer = through(box, synAck({ options: [timestamps(9, moved.readUInt32BE(0))] }))[0].options[0].body;
  assert.equal(answer.readUInt32BE(4), 7);
});

test('split: the pieces have the bytes, all the options, and FIN only at the end', () => {
  const box = chain('split,bytes=4');
  const pieces = through(box, up('0123456789', { flags: ACK | FIN | PSH, options: [CRYPT] }));
  assert.deepEqual(
    pieces.map((each) => each.data.toString()),
    ['0123', '4567', '89'],
  );
  assert.deepEqual(
    pieces.map((each) => each.seq),
    [1001, 1005, 1009],
  );
  assert.deepEqual(
    pieces.map((each) => each.flags & FIN),
    [0, 0, FIN],
  );
  assert.deepEqual(pieces.map(kindsOf), [[253], [253], [253]]);
});

test('coalesce: data that follows within the wait joins the segment that is held', () => {
  const box = chain('coalesce,bytes=8,waitMs=3');
  const [held] = box.handle(up('0123'), 0);
  assert.equal(held.delayMs, 3);
  assert.deepEqual(box.handle(up('45', { seq: 1005 }), 1), []);
  assert.equal(held.packet.data.toString(), '012345');
  assert.equal(box.handle(up('678', { seq: 1007 }), 2).length, 1, 'it would be too long');
  assert.equal(
    box.handle(up('', { flags: ACK, data: Buffer.alloc(0), seq: 1010 }), 2)[0].delayMs,
    0,
    'a bare ACK is not held',
  );
  assert.equal(box.handle(up('9', { seq: 1010 }), 9).length, 1, 'the held one has left');
});

test('correct: bytes that are sent again become those that were seen first', () => {
  const box = chain('correct');
  through(box, syn());
  assert.equal(through(box, up('INIT1'))[0].data.toString(), 'INIT1');
  assert.equal(through(box, up('GET /'))[0].data.toString(), 'INIT1');
  assert.equal(
    through(box, up('T 1+rest', { seq: 1003 }))[0].data.toString(),
    'IT1+rest'.slice(0, 3).concat('+rest'),
  );
  assert.equal(box.counters.corrected, 2);
});

test('loss, duplicate, reorder: about the share that was asked for', () => {
  const count = (name: string): Chain => {
    const box = chain(name);
    for (let i = 0; i < 2000; i++) box.handle(up('x'), i);
    return box;
  };
  const near = (value: number, wanted: number): void =>
    assert.ok(Math.abs(value - wanted) < wanted / 2, `${value} of ${wanted}`);
  near(count('loss,percent=5').counters.lost, 100);
  near(count('duplicate,percent=10').counters.duplicated, 200);
  near(count('reorder,percent=10').counters.reordered, 200);
  assert.equal(chain('duplicate,percent=100').handle(up('x'), 0).length, 2);
  assert.deepEqual(
    chain('reorder,percent=100,delayMs=4')
      .handle(up('x'), 0)
      .map((each) => each.delayMs),
    [4],
  );
});

test('loss,after: the beginning of each flow is spared', () => {
  const box = chain('loss,percent=100,after=2');
  assert.deepEqual(
    [1, 2, 3, 4].map((i) => box.handle(up('x'), i).length),
    [1, 1, 0, 0],
  );
});

test('lose-first: the first packet after the SYN, of one side, once a flow', () => {
  const box = chain('lose-first');
  assert.equal(through(box, syn()).length, 1);
  assert.equal(through(box, synAck()).length, 1);
  assert.equal(through(box, up('x')).length, 0);
  assert.equal(through(box, down('x')).length, 1);
  assert.equal(through(box, up('x')).length, 1);
});

test('forge: the true packet goes on; every forged one lies outside the window', () => {
  const box = chain('forge');
  through(box, syn());
  const sent = through(box, up('true'));
  assert.equal(sent.filter((each) => each.data.toString() === 'true').length, 1);
  const forged = sent.filter((each) => each.data.toString() !== 'true');
  assert.ok(
    forged.some((each) => each.flags & RST) &&
      forged.some((each) => each.flags === SYN) &&
      forged.some((each) => each.data.length),
  );
  for (const each of forged) assert.ok(Math.abs((each.seq - 1001) | 0) > 2 ** 30);
});

test('a chain does one after the other, and a SYN with another ISN begins a flow anew', () => {
  const box = chain('strip-options', 'correct');
  through(box, syn());
  assert.deepEqual(kindsOf(through(box, up('aa', { options: [CRYPT] }))[0]), []);
  assert.equal(through(box, up('bb'))[0].data.toString(), 'aa');
  through(box, syn({ seq: 900 }));
  assert.equal(through(box, up('bb'))[0].data.toString(), 'bb');
  assert.equal(clone(syn()).options.length, 2);
});
