import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { concat } from './bytes.ts';
import { DATA_V4, SACK_V4, SACK_V6, SYN_ACK_V6, SYN_V4, TCP_CAPTURES } from './captures.testing.ts';
import { guarded, hostileBytes } from './hostile.testing.ts';
import {
  cryptOption,
  hasOurOption,
  layoutCompact,
  layoutLinux,
  macOption,
  mssOption,
  type OptionEncodings,
  optionKind,
  parseOptions,
  sackOption,
  type TcpOptions,
  timestampsOption,
} from './options.ts';
import { optionBytes, type Packet, parsePacket } from './packet.ts';
import { hex } from './testing.ts';

const EXPERIMENTAL: OptionEncodings = { write: 'experimental', readBoth: false };
const LEGACY: OptionEncodings = { write: 'legacy', readBoth: false };
const BOTH: OptionEncodings = { write: 'experimental', readBoth: true };
const ALL = [EXPERIMENTAL, LEGACY, BOTH, { write: 'legacy', readBoth: true }] as const;

const TAG = hex('000102030405060708090a0b0c0d0e0f');
const AGGREGATE = concat([TAG, hex('12345678')]);

function parsed(options: Uint8Array, encodings: OptionEncodings = EXPERIMENTAL): TcpOptions {
  const result = parseOptions(options, encodings);
  assert.ok(result !== 'malformed');
  return result;
}

const optionsOf = (bytes: Uint8Array): Uint8Array => optionBytes(parsePacket(bytes) as Packet);

describe('parseOptions on captures', () => {
  test('SYN', () => {
    const found = parsed(optionsOf(SYN_V4));
    assert.equal(found.mss, 1460);
    assert.equal(found.windowScale, 10);
    assert.equal(found.sackPermitted, true);
    assert.deepEqual(found.timestamps, { val: 0x27410ca0, ecr: 0 });
    assert.deepEqual(found.items.map(optionKind), [2, 4, 8, 3]);
    assert.deepEqual([found.crypt, found.macs, found.mac, found.sack], [[], 0, undefined, []]);
    assert.ok(!('incompatible' in found));
  });

  test('SYN-ACK', () => {
    const found = parsed(optionsOf(SYN_ACK_V6));
    assert.equal(found.mss, 1440);
    assert.deepEqual(found.timestamps, { val: 0x30d9abd4, ecr: 0xc7471ac9 });
  });

  test('data', () => {
    const found = parsed(optionsOf(DATA_V4));
    assert.deepEqual(found.items, [timestampsOption(0x27410ca1, 0x4b80caca)]);
    assert.ok(!('mss' in found) && !('windowScale' in found) && !found.sackPermitted);
  });

  test('SACK', () => {
    assert.deepEqual(parsed(optionsOf(SACK_V4)).sack, [[0xf4d41396, 0xf4d4193e]]);
    assert.deepEqual(parsed(optionsOf(SACK_V6)).sack, [[0x78b682ed, 0x78b68881]]);
  });
});

describe('CRYPT and MAC', () => {
  test('bytes of both encodings (wire.md, section 1)', () => {
    assert.deepEqual(cryptOption(hex('01'), EXPERIMENTAL), hex('fd05544301'));
    assert.deepEqual(cryptOption(hex('01'), LEGACY), hex('450301'));
    assert.deepEqual(cryptOption(hex(''), EXPERIMENTAL), hex('fd045443'));
    assert.deepEqual(macOption(TAG, EXPERIMENTAL), concat([hex('fd14544d'), TAG]));
    assert.deepEqual(macOption(TAG, LEGACY), concat([hex('4612'), TAG]));
    assert.deepEqual(macOption(AGGREGATE, BOTH), concat([hex('fd18544d'), AGGREGATE]));
  });

  test('what is written is read, by whoever reads that encoding', () => {
    for (const writer of ALL) {
      for (const reader of ALL) {
        const written = layoutCompact([
          cryptOption(hex('8201'), writer),
          macOption(TAG, writer),
        ]) as Uint8Array;
        const found = parsed(written, reader);
        const reads = reader.readBoth || reader.write === writer.write;
        assert.deepEqual(found.crypt, reads ? [hex('8201')] : []);
        assert.deepEqual([found.macs, found.mac], reads ? [1, TAG] : [0, undefined]);
        assert.equal(found.items.length, reads ? 0 : 2);
        assert.ok(hasOurOption(written));
      }
    }
  });

  test('several CRYPT options come in order', () => {
    assert.deepEqual(parsed(hex('fd055443 01 01 fd055443 02')).crypt, [hex('01'), hex('02')]);
  });

  test('aggregate, wrong length, and two MACs', () => {
    assert.deepEqual(parsed(macOption(AGGREGATE, EXPERIMENTAL)).mac, AGGREGATE);
    for (const length of [0, 15, 17, 19, 21]) {
      const found = parsed(macOption(new Uint8Array(length), EXPERIMENTAL));
      assert.deepEqual([found.macs, found.mac], [1, undefined], `${length} bytes`);
    }
    const two = parsed(concat([macOption(TAG, LEGACY), macOption(TAG.toReversed(), LEGACY)]), LEGACY);
    assert.deepEqual([two.macs, two.mac], [2, TAG]);
  });

  test('kind 253 with another ExID, or none, is an ordinary option', () => {
    for (const text of ['fd041234', 'fd02', 'fd0354', 'fe045443']) {
      assert.deepEqual(parsed(hex(text), BOTH).items, [hex(text)]);
      assert.ok(!hasOurOption(hex(text)), text);
    }
  });
});

describe('parseOptions', () => {
  test('malformed', () => {
    const bad = [
      '02',
      '0200',
      '0201',
      '020405',
      '0303',
      '08',
      '020305',
      '02060505b4b4',
      '080400',
      '0502',
      '0506 00000000',
    ];
    for (const text of [...bad, '050e 000000000000000000000000', '01 01 45', 'fd05544d']) {
      assert.equal(parseOptions(hex(text), BOTH), 'malformed', text);
    }
  });

  test('EOL ends the options', () => {
    assert.deepEqual(parsed(hex('01 00 02 00')).items, []);
    assert.ok(!hasOurOption(hex('01 00 4502')));
  });

  test('window scale and SACK-permitted of a wrong size say nothing', () => {
    const found = parsed(hex('0304 0708 0403 00'));
    assert.ok(!('windowScale' in found) && !found.sackPermitted);
    assert.equal(found.items.length, 2);
  });

  test('options with which tcpcrypt is not offered', () => {
    const cases = [
      ['2202', 'fast_open'],
      ['fd04f989', 'fast_open'],
      ['fe06f9890102', 'fast_open'],
      ['1e0c 00000000000000000000', 'mptcp'],
      ['1312 00000000000000000000000000000000', 'md5'],
      ['1d04 0102', 'tcp_ao'],
    ];
    for (const [text, name] of cases) assert.equal(parsed(hex(`0204 05b4 ${text}`)).incompatible, name);
  });

  test('a list of options comes back', () => {
    const number = fc.nat(0xffffffff);
    const edges = fc.array(fc.tuple(number, number), { minLength: 1, maxLength: 4 });
    const item = fc.oneof(
      fc.nat(0xffff).map(mssOption),
      fc.tuple(number, number).map(([val, ecr]) => timestampsOption(val, ecr)),
      edges.map(sackOption),
      fc.nat(14).map((scale) => Uint8Array.of(3, 3, scale)),
      fc
        .tuple(fc.integer({ min: 100, max: 252 }), fc.uint8Array({ maxLength: 8 }))
        .map(([kind, data]) => concat([Uint8Array.of(kind, data.length + 2), data])),
    );
    fc.assert(
      fc.property(
        fc.array(item, { maxLength: 4 }),
        fc.array(fc.uint8Array({ maxLength: 10 }), { maxLength: 2 }),
        fc.constantFrom(...ALL),
        (items, bodies, encodings) => {
          const ours = bodies.map((body) => cryptOption(body, encodings));
          const laid = layoutCompact([...items, ...ours]);
          const length = concat([...items, ...ours]).length;
          assert.equal(laid === undefined, length > 40);
          if (laid === undefined) return;
          const found = parsed(laid, encodings);
          assert.deepEqual(found.items, items);
          assert.deepEqual(found.crypt, bodies);
          assert.equal(hasOurOption(laid), bodies.length > 0);
          const sack = items.filter((i) => optionKind(i) === 5).flatMap((i) => parsed(i).sack);
          assert.deepEqual(found.sack, sack);
          if (sack.length > 0) assert.deepEqual(parsed(sackOption(found.sack)).sack, sack);
        },
      ),
    );
  });

  test('any bytes: options or malformed, nothing read outside', () => {
    const ours = ALL.map((e) => concat([macOption(TAG, e), hex('01'), cryptOption(hex('8201'), e)]));
    const examples = [...TCP_CAPTURES.map(optionsOf), ...ours];
    fc.assert(
      fc.property(hostileBytes(examples), fc.constantFrom(...ALL), (bytes, encodings) => {
        const has = hasOurOption(guarded(bytes));
        const found = parseOptions(guarded(bytes), encodings);
        if (found === 'malformed') return;
        if (found.crypt.length + found.macs > 0) assert.ok(has);
        if (found.mac) assert.ok(found.mac.length === 16 || found.mac.length === 20);
      }),
      { numRuns: 3000 },
    );
  });
});

describe('option space (wire.md section 1, with timestamps, experimental encoding)', () => {
  const timestamps = timestampsOption(1, 2);
  const oneBlock = sackOption([[1, 2]]);
  const rekey = cryptOption(hex('8201'), EXPERIMENTAL);
  const clock = cryptOption(hex('8000000001'), EXPERIMENTAL);
  const mac = macOption(TAG, EXPERIMENTAL);
  const aggregate = macOption(AGGREGATE, EXPERIMENTAL);
  const size = (...items: Uint8Array[]): number | undefined =>
    layoutCompact(items) && items.reduce((sum, item) => sum + item.length, 0);

  test('MAC of 16', () => {
    assert.equal(size(timestamps, mac), 30);
    assert.equal(size(timestamps, mac, oneBlock), 40);
    assert.equal(size(timestamps, mac, rekey), 36);
    assert.equal(size(timestamps, mac, clock), 39);
    assert.equal(
      size(
        timestamps,
        mac,
        sackOption([
          [1, 2],
          [3, 4],
        ]),
      ),
      undefined,
    );
  });

  test('aggregate MAC', () => {
    assert.equal(size(timestamps, aggregate), 34);
    assert.equal(size(timestamps, aggregate, oneBlock), undefined);
    assert.equal(size(timestamps, aggregate, rekey), 40);
  });

  test('a SYN has 20 bytes left', () => {
    const syn = parsed(optionsOf(SYN_V4)).items;
    assert.ok(layoutLinux([...syn, new Uint8Array(20).fill(9)]));
    assert.equal(layoutLinux([...syn, new Uint8Array(21).fill(9)]), undefined);
  });

  test('layoutCompact pads at the end, with NOPs', () => {
    assert.deepEqual(layoutCompact([]), hex(''));
    assert.deepEqual(layoutCompact([hex('030307')]), hex('03030701'));
    assert.deepEqual(layoutCompact([timestamps, hex('0402')]), concat([timestamps, hex('0402')]));
    assert.equal(layoutCompact([mac, oneBlock, timestamps])?.length, 40);
  });
});

describe('layoutLinux', () => {
  test('lays the options of every capture out as Linux did, in whatever order they come', () => {
    for (const bytes of TCP_CAPTURES) {
      const options = optionsOf(bytes);
      const { items } = parsed(options);
      assert.deepEqual(layoutLinux(items), options);
      assert.deepEqual(layoutLinux(items.toReversed()), options);
    }
  });

  test('SACK-permitted without timestamps, as in a SYN with net.ipv4.tcp_timestamps=0', () => {
    const options = hex('020405b4 01010402 0103030a');
    assert.deepEqual(layoutLinux(parsed(options).items), options);
  });

  test('others come last, padded', () => {
    const other = hex('fd061234ffff');
    assert.deepEqual(
      layoutLinux([other, timestampsOption(1, 2)]),
      hex('0101080a0000000100000002 fd061234ffff 0101'),
    );
  });

  test('keeps every option, aligned, or does not fit', () => {
    const other = fc.constantFrom(
      mssOption(1),
      timestampsOption(1, 2),
      sackOption([[1, 2]]),
      hex('0402'),
      hex('030307'),
      hex('45028040'),
    );
    fc.assert(
      fc.property(fc.array(other, { maxLength: 6 }), (items) => {
        const laid = layoutLinux(items);
        if (laid === undefined) return;
        assert.ok(laid.length <= 40 && laid.length % 4 === 0);
        const text = (list: readonly Uint8Array[]): string =>
          list
            .map((i) => Buffer.from(i).toString('hex'))
            .sort()
            .join();
        const proper = items.filter((i) => i[1] === i.length);
        if (proper.length === items.length) assert.equal(text(parsed(laid).items), text(items));
      }),
    );
  });
});
