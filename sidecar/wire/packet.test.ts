import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { concat, write16 } from './bytes.ts';
import {
  DATA_V4,
  DATA_V6,
  SACK_V4,
  SACK_V6,
  SYN_ACK_V4,
  SYN_V4,
  SYN_V6,
  TCP_CAPTURES,
} from './captures.testing.ts';
import { guarded, hostileBytes } from './hostile.testing.ts';
import {
  ACK,
  ackNumber,
  CWR,
  dataOffsetByte,
  destinationAddress,
  destinationPort,
  ECE,
  FIN,
  flagsOf,
  flowKey,
  formatAddress,
  formatEndpoint,
  localEndpoint,
  optionBytes,
  type Packet,
  PSH,
  parsePacket,
  payloadLength,
  payloadOf,
  RST,
  remoteEndpoint,
  SYN,
  seqNumber,
  sourceAddress,
  sourcePort,
  URG,
  urgentOf,
  windowOf,
} from './packet.ts';
import { hex, makePacket, parseAddress } from './testing.ts';

function parsed(bytes: Uint8Array): Packet {
  const p = parsePacket(bytes);
  assert.ok(typeof p !== 'string', `parsePacket: ${p}`);
  return p;
}

function changed(bytes: Uint8Array, change: (copy: Uint8Array) => void): Uint8Array {
  const copy = bytes.slice();
  change(copy);
  return copy;
}

// An IPv6 packet with extension headers, given as [own number, bytes whose first is filled in here].
function withExtensions(extensions: readonly (readonly [number, string])[]): Uint8Array {
  const bytes = concat([
    DATA_V6.subarray(0, 40),
    ...extensions.map(([, text]) => hex(text)),
    DATA_V6.subarray(40),
  ]);
  write16(bytes, 4, bytes.length - 40);
  let next = 6;
  let at = 40;
  for (const [number, text] of extensions) {
    bytes[next] = number;
    next = at;
    at += hex(text).length;
  }
  bytes[next] = 6;
  return bytes;
}

describe('parsePacket', () => {
  test('Linux SYN over IPv4', () => {
    const p = parsed(SYN_V4);
    assert.deepEqual([p.version, p.tcp, p.payload, p.bytes.length], [4, 20, 60, 60]);
    assert.equal(sourcePort(p), 0xbaa0);
    assert.equal(destinationPort(p), 5201);
    assert.equal(seqNumber(p), 0xf4d3f193);
    assert.equal(ackNumber(p), 0);
    assert.equal(flagsOf(p), SYN);
    assert.equal(dataOffsetByte(p), 0xa0);
    assert.equal(windowOf(p), 64240);
    assert.equal(urgentOf(p), 0);
    assert.equal(payloadLength(p), 0);
    assert.deepEqual(optionBytes(p), SYN_V4.subarray(40));
    assert.deepEqual(sourceAddress(p), Uint8Array.of(10, 99, 0, 1));
    assert.deepEqual(destinationAddress(p), Uint8Array.of(10, 99, 0, 2));
  });

  test('Linux SYN-ACK over IPv4', () => {
    const p = parsed(SYN_ACK_V4);
    assert.equal(flagsOf(p), SYN | ACK);
    assert.equal(ackNumber(p), seqNumber(parsed(SYN_V4)) + 1);
  });

  test('Linux data over IPv6', () => {
    const p = parsed(DATA_V6);
    assert.deepEqual([p.version, p.tcp, p.payload], [6, 40, 72]);
    assert.equal(flagsOf(p), PSH | ACK);
    assert.equal(seqNumber(p), 0x78b66163);
    assert.equal(ackNumber(p), 0x071e08d0);
    assert.equal(windowOf(p), 64);
    assert.equal(Buffer.from(payloadOf(p)).toString(), 'GET / HTTP/1.0\r\n\r\n');
    assert.equal(formatAddress(sourceAddress(p)), 'fd00:99::1');
    assert.equal(formatAddress(destinationAddress(p)), 'fd00:99::2');
  });

  test('what is behind the datagram is cut off', () => {
    for (const bytes of TCP_CAPTURES) {
      assert.deepEqual(parsed(concat([bytes, Uint8Array.of(1, 2, 3)])), parsed(bytes));
    }
  });

  test('every cut is truncated', () => {
    for (const bytes of TCP_CAPTURES) {
      for (let length = 0; length < bytes.length; length++) {
        assert.equal(parsePacket(bytes.subarray(0, length)), 'truncated');
      }
    }
  });

  test('IPv4 options are before the TCP header', () => {
    const bytes = concat([SYN_V4.subarray(0, 20), hex('94040000'), SYN_V4.subarray(20)]);
    bytes[0] = 0x46;
    bytes[3] += 4;
    const p = parsed(bytes);
    assert.deepEqual([p.tcp, p.payload], [24, 64]);
    assert.equal(seqNumber(p), 0xf4d3f193);
  });

  test('IPv6 extension headers are before the TCP header', () => {
    const bytes = withExtensions([
      [0, '0000010400000000'],
      [43, '0000020000000000'],
      [60, '00010104000000000000000000000000'],
    ]);
    const p = parsed(bytes);
    assert.equal(p.tcp, 40 + 8 + 8 + 16);
    assert.equal(seqNumber(p), 0x78b66163);
    assert.equal(payloadLength(p), 18);
  });

  test('fragments', () => {
    assert.equal(
      parsePacket(
        changed(DATA_V4, (b) => {
          b[6] = 0x20;
        }),
      ),
      'fragment',
    );
    assert.equal(
      parsePacket(
        changed(DATA_V4, (b) => {
          b[6] = 0;
          b[7] = 1;
        }),
      ),
      'fragment',
    );
    assert.equal(parsePacket(withExtensions([[44, '0000000100000001']])), 'fragment');
    assert.equal(
      parsePacket(
        withExtensions([
          [0, '0000010400000000'],
          [44, '0000000100000001'],
        ]),
      ),
      'fragment',
    );
  });

  test('other things than TCP over IP', () => {
    assert.equal(
      parsePacket(
        changed(DATA_V4, (b) => {
          b[0] = 0x55;
        }),
      ),
      'not_ip',
    );
    assert.equal(
      parsePacket(
        changed(DATA_V4, (b) => {
          b[9] = 17;
        }),
      ),
      'not_tcp',
    );
    assert.equal(
      parsePacket(
        changed(DATA_V6, (b) => {
          b[6] = 17;
        }),
      ),
      'not_tcp',
    );
    assert.equal(parsePacket(withExtensions([[43, '0000020100000000']])), 'not_tcp'); // segments left
  });

  test('headers that contradict themselves', () => {
    const bad = (bytes: Uint8Array, at: number, value: number): void => {
      assert.equal(
        parsePacket(
          changed(bytes, (b) => {
            b[at] = value;
          }),
        ),
        'bad_header',
        `byte ${at}`,
      );
    };
    bad(DATA_V4, 0, 0x44); // IP header of 16 bytes
    bad(DATA_V4, 3, 19); // total length below the header's
    bad(DATA_V4, 3, 39); // no room for a TCP header
    bad(DATA_V4, 32, 0x40); // TCP header of 16 bytes
    bad(DATA_V4, 32, 0xf0); // TCP header past the end
    bad(DATA_V6, 5, 0); // jumbogram
    bad(DATA_V6, 5, 19);
    bad(DATA_V6, 52, 0xf0);
    bad(withExtensions([[60, '0000010400000000']]), 41, 255); // extension header past the end
    assert.equal(
      parsePacket(
        changed(DATA_V4, (b) => {
          b[2] = 0;
          b[3] = 0;
        }),
      ),
      'bad_header',
    ); // BIG TCP
  });

  test('the shortest segment: no options, no data', () => {
    for (const version of [4, 6] as const) {
      const address = version === 4 ? '10.0.0.1' : 'fd00::1';
      const spec = { version, source: address, destination: address, sourcePort: 1, destinationPort: 2 };
      const p = makePacket({ ...spec, seq: 3, ack: 4, flags: RST, window: 0 });
      assert.deepEqual(parsePacket(p.bytes), p);
      assert.deepEqual([optionBytes(p).length, payloadLength(p)], [0, 0]);
    }
  });

  test('an IPv6 packet that ends before, in or right after an extension header', () => {
    const bytes = withExtensions([
      [60, '0000010400000000'],
      [60, '0000010400000000'],
    ]).slice(0, 56);
    for (const [payload, problem] of [
      [8, 'bad_header'],
      [15, 'bad_header'],
      [16, 'bad_header'],
    ] as const) {
      bytes[5] = payload;
      assert.equal(parsePacket(guarded(bytes.slice(0, 40 + payload))), problem);
    }
    bytes[48] = 59; // no next header
    assert.equal(parsePacket(guarded(bytes)), 'not_tcp');
  });

  test('any bytes: a packet or a reason, nothing read outside', () => {
    const examples = [
      ...TCP_CAPTURES,
      withExtensions([
        [0, '0000010400000000'],
        [60, '0000010400000000'],
      ]),
    ];
    fc.assert(
      fc.property(hostileBytes(examples), (bytes) => {
        const p = parsePacket(guarded(bytes));
        if (typeof p === 'string') return;
        assert.ok(p.tcp >= 20 && p.payload >= p.tcp + 20 && p.payload <= p.bytes.length);
        for (const read of [sourcePort, destinationPort, seqNumber, ackNumber, windowOf, urgentOf, flagsOf])
          read(p);
        for (const direction of ['in', 'out'] as const) {
          flowKey(p, direction);
          localEndpoint(p, direction);
        }
        assert.equal(optionBytes(p).length, p.payload - p.tcp - 20);
        assert.equal(payloadOf(p).length, payloadLength(p));
      }),
      { numRuns: 3000 },
    );
  });
});

test('flags, RFC 9293 section 3.1', () => {
  assert.deepEqual([FIN, SYN, RST, PSH, ACK, URG, ECE, CWR], [1, 2, 4, 8, 16, 32, 64, 128]);
});

describe('endpoints and flow keys', () => {
  test('local is the source of what goes out and the destination of what comes in', () => {
    const p = parsed(SYN_V4);
    assert.equal(localEndpoint(p, 'out'), '10.99.0.1:47776');
    assert.equal(remoteEndpoint(p, 'out'), '10.99.0.2:5201');
    assert.equal(localEndpoint(p, 'in'), '10.99.0.2:5201');
    assert.equal(remoteEndpoint(p, 'in'), '10.99.0.1:47776');
    assert.equal(localEndpoint(parsed(SYN_V6), 'out'), '[fd00:99::1]:55112');
  });

  test('one key for both directions of a connection, another for each end', () => {
    assert.equal(flowKey(parsed(SYN_V4), 'out'), flowKey(parsed(SACK_V4), 'in'));
    assert.equal(flowKey(parsed(SYN_V6), 'out'), flowKey(parsed(SACK_V6), 'in'));
    assert.notEqual(flowKey(parsed(SYN_V4), 'out'), flowKey(parsed(SYN_V4), 'in'));
    assert.notEqual(flowKey(parsed(SYN_V4), 'out'), flowKey(parsed(SYN_V6), 'out'));
  });

  test('keys are equal exactly when the 4-tuples are', () => {
    const port = fc.constantFrom(1, 2, 256, 257);
    const tuple = fc.oneof(
      fc.tuple(
        fc.constant(4 as const),
        fc.constantFrom('1.2.3.4', '4.3.2.1'),
        fc.constantFrom('1.2.3.4', '5.6.7.8'),
        port,
        port,
      ),
      fc.tuple(
        fc.constant(6 as const),
        fc.constantFrom('::1', '1::'),
        fc.constantFrom('::1', '::2'),
        port,
        port,
      ),
    );
    const key = ([version, source, destination, sourcePort, destinationPort]: [
      4 | 6,
      string,
      string,
      number,
      number,
    ]) =>
      flowKey(
        makePacket({
          version,
          source,
          destination,
          sourcePort,
          destinationPort,
          seq: 0,
          ack: 0,
          flags: 0,
          window: 0,
        }),
        'out',
      );
    fc.assert(fc.property(tuple, tuple, (a, b) => (key(a) === key(b)) === (a.join() === b.join())));
  });
});

describe('formatAddress, RFC 5952', () => {
  const cases: [string, string, string][] = [
    ['4.1: leading zeros go', '2001:0db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['4.2.1: as short as possible', '2001:db8:0:0:0:0:2:1', '2001:db8::2:1'],
    ['4.2.2: no :: for one group', '2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['4.2.3: the longest run', '2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['4.2.3: the first of equal runs', '2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['4.3: lower case', '2001:DB8::ABCD', '2001:db8::abcd'],
    ['5: IPv4-mapped', '::ffff:c000:0201', '::ffff:192.0.2.1'],
    ['all zeros', '0:0:0:0:0:0:0:0', '::'],
    ['run at the start', '0:0:0:0:0:0:0:1', '::1'],
    ['run at the end', 'fe80:0:0:0:0:0:0:0', 'fe80::'],
    ['none', '1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
    ['IPv4', '192.0.2.255', '192.0.2.255'],
  ];
  for (const [name, from, to] of cases) {
    test(name, () => assert.equal(formatAddress(parseAddress(from)), to));
  }

  test('every address comes back', () => {
    const group = fc.oneof(fc.constant(0), fc.nat(0xffff));
    const v6 = fc
      .array(group, { minLength: 8, maxLength: 8 })
      .map((g) => Uint8Array.from(g.flatMap((n) => [n >> 8, n])));
    fc.assert(
      fc.property(fc.oneof(v6, fc.uint8Array({ minLength: 4, maxLength: 4 })), (address) => {
        assert.deepEqual(parseAddress(formatAddress(address)), address);
      }),
    );
  });

  test('formatEndpoint', () => {
    assert.equal(formatEndpoint(parseAddress('192.0.2.1'), 80), '192.0.2.1:80');
    assert.equal(formatEndpoint(parseAddress('2001:db8::1'), 80), '[2001:db8::1]:80');
  });
});
