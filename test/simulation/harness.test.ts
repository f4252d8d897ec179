/** The harness tested: the model TCP alone carries every stream, and each kind of wrongdoing is noticed. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { RewriterMachine, RewriterOptions } from '../../sidecar/rewriter/types.ts';
import { pattern } from './application.ts';
import { type MachineFactory, passThrough } from './machine.ts';
import { Random } from './random.ts';
import { realMachine } from './real-machine.ts';
import { type Amend, runSeed, withoutRewriters } from './run.ts';
import { calm } from './scenarios.testing.ts';
import { ACK, decode, encode, joinOptions, RST, type Segment, SYN } from './segment.ts';
import { type KeystreamLog, WireWatch } from './wire-watch.ts';
import type { RunResult } from './world.ts';

const MACED: Segment = {
  src: '10.0.0.1',
  dst: '10.0.0.2',
  sport: 1,
  dport: 2,
  seq: 0,
  ack: 0,
  flags: ACK,
  window: 0,
  urgent: 0,
  options: joinOptions([Uint8Array.of(253, 20, 0x54, 0x4d, ...new Uint8Array(16))]),
  payload: new Uint8Array(0),
};

function properties(result: RunResult): string[] {
  return [...new Set(result.violations.map(({ property }) => property))];
}

/** A machine that changes what another one lets through. */
function tampering(
  base: MachineFactory,
  edit: (bytes: Uint8Array, outgoing: boolean) => Uint8Array,
): MachineFactory {
  return (options: RewriterOptions): RewriterMachine => {
    const machine = base({
      ...options,
      output: {
        inject: (to, bytes) => options.output.inject(to, edit(bytes, to === 'network')),
        verdict: (token, verdict) => {
          if (verdict.kind === 'drop') return options.output.verdict(token, verdict);
          const { bytes, direction } = packets.get(token)!;
          options.output.verdict(token, { ...verdict, bytes: edit(verdict.bytes ?? bytes, direction) });
        },
      },
    });
    const packets = new Map<number, { bytes: Uint8Array; direction: boolean }>();
    const handle = machine.handle.bind(machine);
    machine.handle = (direction, bytes, token, mark, now, offload) => {
      packets.set(token, { bytes: bytes.slice(), direction: direction === 'out' });
      handle(direction, bytes, token, mark, now, offload);
    };
    return machine;
  };
}

/** Edits segments that carry data; others stay. */
function data(edit: (segment: Segment) => Segment): (bytes: Uint8Array, outgoing: boolean) => Uint8Array {
  return (bytes, outgoing) => {
    const segment = decode(bytes);
    if (typeof segment === 'string' || segment.payload.length === 0 || !outgoing) return bytes;
    return encode(edit(segment));
  };
}

describe('the model TCP alone', () => {
  it('carries every stream through every path', () => {
    let connections = 0;
    for (let seed = 1; seed <= 1000; seed++) {
      const result = runSeed(seed, passThrough, undefined, withoutRewriters);
      assert.deepEqual(result.violations, [], `seed ${seed}`);
      connections += result.connections.length;
    }
    assert.ok(connections > 1000);
  });

  it('runs the same way each time', () => {
    const events = (seed: number): string => {
      const result = runSeed(seed, passThrough, undefined, withoutRewriters);
      return `${result.events} ${result.endedAtMs}`;
    };
    for (const seed of [3, 77, 1234]) assert.equal(events(seed), events(seed));
  });

  it('segments are written and read back, IPv4 and IPv6', () => {
    const random = new Random(7);
    for (const [src, dst] of [
      ['10.0.0.1', '10.0.0.2'],
      ['fd00::1', 'fd00::99'],
    ] as const) {
      for (let i = 0; i < 200; i++) {
        const segment: Segment = {
          src,
          dst,
          sport: random.below(65536),
          dport: random.below(65536),
          seq: random.u32(),
          ack: random.u32(),
          flags: random.pick([ACK, SYN, RST | ACK]),
          window: random.below(65536),
          urgent: 0,
          options: joinOptions([random.bytes(4 * random.below(10))]),
          payload: random.bytes(random.below(200)),
        };
        const bytes = encode(segment);
        assert.deepEqual(decode(bytes), segment);
        bytes[bytes.length - 1]! ^= 1;
        assert.equal(typeof decode(bytes), 'string');
      }
    }
  });
});

describe('each property notices its violation', () => {
  const calmWith =
    (amend: Amend): Amend =>
    (scenario) =>
      amend(calm(scenario));
  const plain = calmWith((scenario) => scenario);

  it('a rewriter that lets plaintext out after it is encrypted', () => {
    const leaks: MachineFactory = (options) => {
      const machine = realMachine(options);
      let after = 0;
      const handle = machine.handle.bind(machine);
      machine.handle = (direction, bytes, token, mark, now, offload) => {
        const segment = decode(bytes);
        const leak = machine.counts().encrypted > 0 && direction === 'out' && after++ > 3;
        if (leak && typeof segment !== 'string' && segment.payload.length > 0)
          options.output.verdict(token, { kind: 'accept' });
        else handle(direction, bytes, token, mark, now, offload);
      };
      return machine;
    };
    assert.ok(properties(runSeed(11, leaks, undefined, plain)).includes('no plaintext once encrypted'));
  });

  it('a rewriter that never encrypts', () => {
    assert.ok(properties(runSeed(11, passThrough, undefined, plain)).includes('a clean path is encrypted'));
  });

  it('a rewriter that corrupts a byte for its own kernel', () => {
    const corrupt = tampering(passThrough, (bytes, outgoing) => {
      const segment = decode(bytes);
      if (outgoing || typeof segment === 'string' || segment.payload.length === 0) return bytes;
      const payload = segment.payload.slice();
      payload[0]! ^= 1;
      return encode({ ...segment, payload });
    });
    assert.deepEqual(properties(runSeed(11, corrupt, undefined, plain)), [
      'the stream is whole',
      'the bytes delivered are the bytes sent',
    ]);
  });

  it('a rewriter that encrypts one byte twice in two ways', () => {
    let count = 0;
    const twice = tampering(
      realMachine,
      data((segment) => {
        const payload = segment.payload.slice();
        payload[0] = count++ & 255;
        return { ...segment, payload };
      }),
    );
    const found = properties(runSeed(11, twice, undefined, plain));
    assert.ok(
      found.includes('one ciphertext a byte') || found.includes('INIT is repeated unchanged'),
      found.join(),
    );
  });

  it('a rewriter whose segments are larger than the link', () => {
    const larger = tampering(
      passThrough,
      data((segment) => ({
        ...segment,
        options: joinOptions([segment.options, new Uint8Array(20).fill(1)]),
      })),
    );
    assert.ok(properties(runSeed(11, larger, undefined, plain)).includes('segments fit the link'));
  });

  it('a rewriter that acknowledges what its kernel has not', () => {
    const lies = tampering(passThrough, (bytes, outgoing) => {
      const segment = decode(bytes);
      if (!outgoing || typeof segment === 'string' || segment.flags !== ACK) return bytes;
      return encode({ ...segment, ack: (segment.ack + 1) >>> 0 });
    });
    const found = properties(runSeed(11, lies, undefined, plain));
    assert.ok(found.length > 0, found.join());
  });

  it('a rewriter that damages checksums', () => {
    const damage = tampering(passThrough, (bytes) => {
      const out = bytes.slice();
      out[out.length - 1]! ^= 1;
      return out;
    });
    const found = properties(runSeed(11, damage, undefined, plain));
    assert.ok(found.includes('what leaves is well formed'), found.join());
  });

  it('a rewriter that keeps a packet for ever, or throws, or answers twice', () => {
    const with_ = (act: (options: RewriterOptions, token: number) => void): MachineFactory => {
      return (options) => ({
        ...passThrough(options),
        handle: (_direction, _bytes, token) => act(options, token),
      });
    };
    const keeps = with_(() => {});
    const throws = with_(() => {
      throw new Error('no');
    });
    const answersTwice = with_((options, token) => {
      options.output.verdict(token, { kind: 'accept' });
      options.output.verdict(token, { kind: 'accept' });
    });
    assert.ok(properties(runSeed(11, keeps, undefined, plain)).includes('every packet gets a verdict'));
    assert.ok(properties(runSeed(11, throws, undefined, plain)).includes('nothing throws'));
    assert.ok(properties(runSeed(11, answersTwice, undefined, plain)).includes('one verdict a packet'));
  });

  it('a rewriter that forgets nothing, and one whose timer never rests', () => {
    const hoards: MachineFactory = (options) => ({
      ...passThrough(options),
      counts: () => ({ setup: 0, encrypted: 0, plain: 1, cachedSessions: 0, sharedListings: 0 }),
    });
    const restless: MachineFactory = (options) => ({ ...passThrough(options), nextTimeout: () => 0 });
    assert.ok(properties(runSeed(11, hoards, undefined, plain)).includes('memory returns to nothing'));
    assert.ok(properties(runSeed(11, restless, undefined, plain)).includes('timers come to rest'));
  });

  it('a key that two connections share', () => {
    const found: string[] = [];
    const keystream: KeystreamLog = new Map();
    const key = new Random(5).bytes(64);
    for (const label of [0, 1]) {
      const stream = pattern(label, 'opener', 64);
      const watch = new WireWatch(
        `connection ${label}`,
        100,
        stream,
        { legacy: false },
        keystream,
        (property) => {
          found.push(property);
        },
      );
      watch.encrypted = true;
      watch.leaves({ ...MACED, seq: 101, payload: stream.map((byte, i) => byte ^ key[i]!) }, false);
    }
    assert.deepEqual([...new Set(found)], ['no keystream byte twice']);
  });

  it('plaintext under a MAC, anywhere in a segment', () => {
    const found: string[] = [];
    const stream = pattern(3, 'listener', 100);
    const watch = new WireWatch(
      'one',
      0,
      stream,
      { legacy: false },
      new Map(),
      (property) => void found.push(property),
    );
    const payload = new Random(1).bytes(60);
    watch.leaves({ ...MACED, seq: 1, payload }, false);
    assert.deepEqual(found, []);
    payload.set(stream.subarray(20, 40), 13);
    watch.leaves({ ...MACED, seq: 61, payload }, false);
    assert.deepEqual(found, ['no plaintext once encrypted']);
  });
});
