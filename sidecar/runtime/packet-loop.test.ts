import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ASKED_BEFORE,
  ConnectionState,
  markLayout,
  markOf,
  QUEUED_WITHOUT_STATE,
  verdictMark,
} from '../../netfilter/marks.ts';
import { descriptor, hooks, packetFlags, verdicts } from '../nfqueue-bindings/index.ts';
import type { Output, RewriterMachine } from '../rewriter/types.ts';
import { PacketLoop, type PacketLoopOptions, type PacketQueue, type Sender } from './packet-loop.ts';
import { CounterReader, Counters } from './shared-counters.ts';

const layout = markLayout();
/** The loop's own number. */
const worker = 5;
const SYN = 0x02;
const ACK = 0x10;

interface TestPacket {
  readonly id: number;
  readonly bytes: Uint8Array;
  readonly hook?: number;
  readonly mark?: number;
  readonly flags?: number;
}

/** An IPv4 TCP segment with the fields that the loop reads. */
function segment(flags: number, payload = 0): Uint8Array {
  const bytes = new Uint8Array(40 + payload);
  bytes[0] = 0x45;
  bytes[9] = 6;
  bytes[32] = 0x50;
  bytes[33] = flags;
  return bytes;
}

class FakeQueue implements PacketQueue {
  readonly ring = Buffer.alloc(1 << 16);
  readonly descriptors = new Uint32Array(64 * descriptor.stride);
  readonly waiting: TestPacket[] = [];
  /** [id, verdict, mark, payload's length] */
  readonly given: (readonly (number | undefined)[])[] = [];
  flushed = 0;

  /** As the kernel's queue does, and forgets them. */
  receive(): number {
    const packets = this.waiting.splice(0);
    this.ring.fill(0xee);
    let offset = 0;
    for (const [i, { id, bytes, hook = hooks.postrouting, mark = 0, flags = 0 }] of packets.entries()) {
      this.ring.set(bytes, offset);
      this.descriptors.set([id, offset, bytes.length, hook, mark, 11, 12, flags], i * descriptor.stride);
      offset += bytes.length;
    }
    return packets.length;
  }
  verdict(
    id: number,
    verdict: number,
    { payload, mark }: { payload?: Uint8Array; mark?: number } = {},
  ): void {
    if ((payload?.length ?? 0) > 65531) throw new RangeError('payload must have from 1 to 65531 bytes');
    this.given.push([id, verdict, mark, payload?.length]);
  }
  acceptInPlace(id: number, mark: number | undefined, start: number, end: number): void {
    this.given.push([id, verdicts.accept, mark, end - start, this.ring[start]]);
  }
  flush(): void {
    this.flushed = this.given.length;
  }
}

type Handle = (output: Output, ...args: Parameters<RewriterMachine['handle']>) => void;

function setUp(
  handle: Handle,
  options: Partial<PacketLoopOptions> & {
    due?: number;
    advance?: () => void;
    rewriteInPlace?: RewriterMachine['rewriteInPlace'];
  } = {},
) {
  const setup = new FakeQueue();
  const data = new FakeQueue();
  const superSegment = new FakeQueue();
  const reader = new CounterReader();
  const source = reader.source();
  const counters = new Counters(source.memory, source.announced);
  const logged: unknown[] = [];
  const waited: [maxWaitMs: number, dueMs: number][] = [];
  const queues = [setup, data, superSegment];
  let received: readonly number[] = [];
  const sent: [packet: Uint8Array, ifindex: number | undefined, renewal: string][] = [];
  const sender = (renewal: string): Sender => ({
    lastErrno: 1,
    send: (packet, ifindex) => {
      sent.push([packet, ifindex, renewal]);
      return packet.length > 1;
    },
  });
  let advanced = 0;
  const loop = new PacketLoop({
    queues: { setup, data, super_segment: superSegment },
    poller: {
      next: (maxWaitMs, dueMs) => {
        waited.push([maxWaitMs, dueMs]);
        for (const queue of queues) queue.flush();
        received = queues.map((queue) => queue.receive());
      },
      nowMs: 1000,
      woken: false,
      received: (index) => received[index]!,
    },
    senders: { none: sender('none'), offered: sender('offered'), tcpcrypt: sender('tcpcrypt') },
    createMachine: (output) =>
      ({
        handle: (...args: Parameters<RewriterMachine['handle']>) => handle(output, ...args),
        rewriteInPlace: options.rewriteInPlace ?? (() => -1),
        nextTimeout: () => options.due,
        advance: () => {
          advanced++;
          options.advance?.();
        },
      }) as unknown as RewriterMachine,
    layout,
    worker,
    strict: false,
    counters,
    log: (_level, message, fields) => void logged.push([message, fields]),
    now: () => 1000,
    ...options,
  });
  const count = (metric: string, labels = {}): number | undefined =>
    reader.read(metric).find((series) => JSON.stringify(series.labels) === JSON.stringify(labels))?.values[0];
  return { setup, data, superSegment, loop, logged, waited, sent, count, advanced: () => advanced };
}

test('what the rewriter hears of a packet: direction by hook, mark by queue and packet mark', () => {
  const heard: unknown[] = [];
  const { loop, setup, data } = setUp((output, direction, bytes, token, mark, now) => {
    heard.push([direction, bytes.length, mark, now]);
    output.verdict(token, { kind: 'accept' });
  });
  setup.waiting.push(
    { id: 1, bytes: segment(SYN), hook: hooks.prerouting },
    { id: 2, bytes: segment(SYN), mark: markOf(layout, ASKED_BEFORE as ConnectionState) },
  );
  data.waiting.push(
    { id: 1, bytes: segment(ACK, 5) },
    { id: 2, bytes: segment(ACK, 6), mark: markOf(layout, QUEUED_WITHOUT_STATE as ConnectionState) },
    { id: 3, bytes: segment(ACK, 7), mark: markOf(layout, ConnectionState.plain), hook: hooks.prerouting },
  );
  loop.turn(0);
  assert.deepEqual(heard, [
    ['in', 40, 'none', 1000],
    ['out', 40, 'offered', 1000],
    ['out', 45, 'tcpcrypt', 1000],
    ['out', 46, 'none', 1000],
    ['in', 47, 'plain', 1000],
  ]);
});

test('packets of the super-segment queue: its mark, and what offloads mean for each', () => {
  const heard: unknown[] = [];
  const { loop, data, superSegment, count } = setUp(
    (output, _direction, _bytes, token, mark, _now, offload) => {
      heard.push([mark, offload]);
      output.verdict(token, { kind: 'accept', mark: mark === 'superSegment' ? 'tcpcrypt' : 'superSegment' });
    },
  );
  const { gso, checksumNotReady } = packetFlags;
  for (const flags of [0, gso, checksumNotReady, gso | checksumNotReady]) {
    superSegment.waiting.push({ id: flags, bytes: segment(ACK, 10), flags });
  }
  data.waiting.push({ id: 9, bytes: segment(ACK) });
  loop.turn(0);
  const offloads = [
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ].map(([superSegment, checksumLater]) => ({ superSegment, checksumLater }));
  const byFlags = [0, gso, checksumNotReady, gso | checksumNotReady];
  assert.deepEqual(heard[0], ['tcpcrypt', offloads[0]]);
  assert.deepEqual(
    heard.slice(1),
    byFlags.map((flags) => [
      'superSegment',
      offloads[(flags & gso ? 1 : 0) + (flags & checksumNotReady ? 2 : 0)],
    ]),
  );
  const [single, whole] = [ConnectionState.tcpcrypt, ConnectionState.superSegment].map((state) =>
    verdictMark(layout, state, worker),
  );
  assert.deepEqual(data.given, [[9, verdicts.repeat, whole, undefined]]);
  assert.ok(superSegment.given.every(([, verdict, mark]) => verdict === verdicts.repeat && mark === single));
  loop.turn(0);
  assert.equal(superSegment.flushed, 4);
  assert.equal(count('tcpcrypt_packets_total', { queue: 'super_segment', verdict: 'accept' }), 4);
  assert.equal(count('tcpcrypt_payload_bytes_total', { direction: 'out' }), 40, 'a new mark hides no bytes');
});

test('a packet of our own leaves after those whose verdicts came before', () => {
  const flushed: number[] = [];
  const { loop, superSegment } = setUp((output, _direction, _bytes, token) => {
    if (superSegment.given.length === 2) {
      output.inject('network', segment(ACK));
      flushed.push(superSegment.flushed);
    }
    output.verdict(token, { kind: 'accept' });
  });
  superSegment.waiting.push(...[1, 2, 3].map((id) => ({ id, bytes: segment(ACK, 5) })));
  loop.turn(0);
  assert.deepEqual(flushed, [2]);
});

test('a verdict with a mark repeats the hook with it; one without accepts, our bits cleared', () => {
  const answers = [
    { kind: 'accept', mark: 'tcpcrypt', bytes: new Uint8Array(50) },
    { kind: 'accept', mark: 'plain' },
    { kind: 'accept' },
    { kind: 'accept', bytes: new Uint8Array(60) },
    { kind: 'drop' },
  ] as const;
  let next = 0;
  const { loop, data } = setUp((output, _direction, _bytes, token) =>
    output.verdict(token, answers[next++]!),
  );
  const foreign = 0x000000ff;
  const dirty = (markOf(layout, ConnectionState.plain) | foreign) >>> 0;
  for (let id = 0; id < answers.length; id++) {
    data.waiting.push({ id, bytes: segment(ACK), mark: id === 2 ? dirty : foreign });
  }
  loop.turn(0);
  assert.deepEqual(data.given, [
    [0, verdicts.repeat, verdictMark(layout, ConnectionState.tcpcrypt, worker, foreign), 50],
    [1, verdicts.repeat, verdictMark(layout, ConnectionState.plain, worker, foreign), undefined],
    [2, verdicts.accept, foreign, undefined],
    [3, verdicts.accept, undefined, 60],
    [4, verdicts.drop, undefined, undefined],
  ]);
  loop.flush();
  assert.equal(data.flushed, 5);
});

test('what is rewritten in the ring is accepted from there; what fails there is dropped', () => {
  const offered: unknown[] = [];
  const handled: number[] = [];
  const { loop, setup, data, count, logged } = setUp(
    (output, _direction, bytes, token) => {
      handled.push(bytes.length);
      output.verdict(token, { kind: 'accept' });
    },
    {
      rewriteInPlace: (direction, ring, start, end, mark, now) => {
        offered.push([direction, end - start, mark, now]);
        if (end - start === 41) return -1;
        if (end - start === 42) throw new Error('broken');
        ring.copyWithin(start + 20, start, start + 40);
        return start + 20;
      },
    },
  );
  const marked = (state: ConnectionState) => markOf(layout, state);
  setup.waiting.push({ id: 1, bytes: segment(SYN) });
  data.waiting.push(
    { id: 2, bytes: segment(ACK, 100), hook: hooks.prerouting },
    { id: 3, bytes: segment(ACK, 1) },
    { id: 4, bytes: segment(ACK, 2) },
    { id: 5, bytes: segment(ACK, 3), mark: marked(QUEUED_WITHOUT_STATE as ConnectionState) },
    { id: 6, bytes: segment(ACK, 4), mark: marked(ConnectionState.plain) },
    { id: 7, bytes: segment(ACK, 5), flags: packetFlags.cut },
    { id: 8, bytes: segment(ACK, 6), mark: (layout.injectMark | 0xff) >>> 0 },
  );
  loop.turn(0);
  const seen = [140, 41, 42, 46].map((length, i) => [i === 0 ? 'in' : 'out', length, 'tcpcrypt', 1000]);
  assert.deepEqual(offered, seen, 'only what belongs to an encrypted connection, and is whole');
  assert.deepEqual(handled, [40, 41, 43, 44]);
  assert.deepEqual(data.given, [
    [2, verdicts.accept, undefined, 120, 0x45],
    [3, verdicts.accept, undefined, undefined],
    [4, verdicts.drop, undefined, undefined],
    [5, verdicts.accept, 0, undefined],
    [6, verdicts.accept, 0, undefined],
    [7, verdicts.drop, undefined, undefined],
    [8, verdicts.accept, 0xff, 26, 0x45],
  ]);
  assert.equal(logged.length, 2);
  assert.equal(count('tcpcrypt_payload_bytes_total', { direction: 'in' }), 80);
  assert.equal(count('tcpcrypt_packets_total', { queue: 'data', verdict: 'accept' }), 5);
  assert.equal(count('tcpcrypt_packets_total', { queue: 'data', verdict: 'drop' }), 2);
});

test('a SYN that is accepted without a decision leaves its connection asked about, our bits cleared', () => {
  const { loop, setup } = setUp((output, _direction, _bytes, token) =>
    output.verdict(token, { kind: 'accept' }),
  );
  const again = (markOf(layout, ASKED_BEFORE as ConnectionState) | 0xff) >>> 0;
  setup.waiting.push({ id: 7, bytes: segment(SYN) }, { id: 8, bytes: segment(SYN), mark: again });
  loop.turn(0);
  assert.deepEqual(setup.given, [
    [7, verdicts.accept, undefined, undefined],
    [8, verdicts.accept, 0xff, undefined],
  ]);
});

test('a packet sent afresh is dropped from its queue and leaves anew, with the mark of its connection', () => {
  const linkLocal = Buffer.alloc(60);
  linkLocal[0] = 0x60;
  linkLocal.set([0xfe, 0x80], 8);
  linkLocal.set([0xfe, 0x80], 24);
  const answers = [
    { kind: 'accept', mark: 'tcpcrypt', afresh: true, bytes: new Uint8Array(50) },
    { kind: 'accept', mark: 'offered', afresh: true },
    // Loopback is not the interface that a link-local socket listens to.
    { kind: 'accept', mark: 'tcpcrypt', afresh: true, bytes: linkLocal },
  ] as const;
  let next = 0;
  const { loop, data, sent, count } = setUp((output, _direction, _bytes, token) =>
    output.verdict(token, answers[next++]!),
  );
  const mark = markOf(layout, QUEUED_WITHOUT_STATE as ConnectionState);
  data.waiting.push(
    { id: 1, bytes: segment(ACK, 5), mark, hook: hooks.prerouting },
    { id: 2, bytes: segment(ACK, 6), mark },
    { id: 3, bytes: segment(ACK, 7), mark },
  );
  loop.turn(0);
  assert.deepEqual(
    sent.map(([packet, , renewal]) => [packet.length, renewal]),
    [
      [50, 'tcpcrypt'],
      [46, 'offered'],
    ],
  );
  assert.deepEqual(data.given, [
    [1, verdicts.drop, undefined, undefined],
    [2, verdicts.drop, undefined, undefined],
    [3, verdicts.repeat, verdictMark(layout, ConnectionState.tcpcrypt, worker), 60],
  ]);
  assert.equal(count('tcpcrypt_injected_packets_total', { to: 'kernel', result: 'sent' }), 1);
  assert.equal(count('tcpcrypt_injected_packets_total', { to: 'network', result: 'sent' }), 1);
});

test('held packets get their verdict later, by token, on their own queue, and once', () => {
  const tokens: number[] = [];
  let release = false;
  const { loop, setup, data, count } = setUp((output, _direction, _bytes, token) => {
    tokens.push(token);
    if (!release) return;
    output.verdict(tokens[0]!, { kind: 'accept' });
    output.verdict(tokens[0]!, { kind: 'drop' });
    output.verdict(tokens[1]!, { kind: 'drop' });
    output.verdict(token, { kind: 'accept' });
    output.verdict(token, { kind: 'drop' });
    output.verdict(12345, { kind: 'drop' });
  });
  data.waiting.push({ id: 5, bytes: segment(ACK, 100), hook: hooks.prerouting });
  loop.turn(0);
  setup.waiting.push({ id: 5, bytes: segment(SYN) });
  loop.turn(0);
  assert.deepEqual([loop.held, data.given, setup.given], [2, [], []]);
  release = true;
  data.waiting.push({ id: 6, bytes: segment(ACK, 100) });
  loop.turn(0);
  assert.equal(loop.held, 0);
  assert.deepEqual(data.given, [
    [5, 1, undefined, undefined],
    [6, 1, undefined, undefined],
  ]);
  assert.deepEqual(setup.given, [[5, 0, undefined, undefined]]);
  loop.turn(0);
  assert.deepEqual([setup.flushed, data.flushed], [1, 2]);
  // Its bytes were gone by then: the ring held the next packet's.
  assert.equal(count('tcpcrypt_payload_bytes_total', { direction: 'in' }), 0);
});

const faulty: Handle = () => {
  throw new TypeError('a bug');
};

test('a bug in the rewriter: set-up packets pass, others are dropped, all is counted', () => {
  const { loop, setup, data, count, logged } = setUp(faulty);
  setup.waiting.push({ id: 1, bytes: segment(SYN) });
  data.waiting.push({ id: 2, bytes: segment(ACK) });
  loop.turn(0);
  assert.deepEqual(setup.given, [[1, verdicts.accept, undefined, undefined]]);
  assert.deepEqual(data.given, [[2, verdicts.drop, undefined, undefined]]);
  assert.equal(count('tcpcrypt_packet_errors_total', { queue: 'setup', kind: 'TypeError' }), 1);
  assert.equal(count('tcpcrypt_packet_errors_total', { queue: 'data', kind: 'TypeError' }), 1);
  assert.equal(logged.length, 2);
});

test('a bug in the rewriter, in strict mode: set-up packets are dropped as well', () => {
  const { loop, setup } = setUp(faulty, { strict: true });
  setup.waiting.push({ id: 1, bytes: segment(SYN) });
  loop.turn(0);
  assert.deepEqual(setup.given, [[1, verdicts.drop, undefined, undefined]]);
});

test('a bug after the verdict gives no second one', () => {
  const { loop, data } = setUp((output, _direction, _bytes, token) => {
    output.verdict(token, { kind: 'accept' });
    throw new Error('late');
  });
  data.waiting.push({ id: 1, bytes: segment(ACK) });
  loop.turn(0);
  assert.deepEqual(data.given, [[1, verdicts.accept, undefined, undefined]]);
});

test('a packet that the kernel cut, or that grew too long for a verdict, is dropped', () => {
  const { loop, data } = setUp((output, _direction, _bytes, token) =>
    output.verdict(token, { kind: 'accept', bytes: new Uint8Array(65532) }),
  );
  data.waiting.push({ id: 1, bytes: segment(ACK), flags: packetFlags.cut }, { id: 2, bytes: segment(ACK) });
  loop.turn(0);
  assert.deepEqual(data.given, [
    [1, 0, undefined, undefined],
    [2, 0, undefined, undefined],
  ]);
});

test('waiting: until the next timer or the limit', () => {
  const accept: Handle = (output, _direction, _bytes, token) => output.verdict(token, { kind: 'accept' });
  const untimed = setUp(accept);
  untimed.loop.turn(500);
  assert.deepEqual([untimed.waited, untimed.advanced()], [[[500, Infinity]], 0]);
  const timed = setUp(accept, { due: 1200 });
  timed.loop.turn(500);
  assert.deepEqual([timed.waited, timed.advanced()], [[[500, 1200]], 0]);
  const due = setUp(accept, { due: 1000 });
  due.loop.turn(500);
  assert.deepEqual([due.waited, due.advanced()], [[[500, 1000]], 1]);
});

test('an idle loop works ahead, a piece a turn, before it sleeps; a busy one does not', () => {
  let pieces = 2;
  const ahead = {
    get missing() {
      return pieces > 0;
    },
    replenish: () => void pieces--,
  };
  const { loop, data, waited } = setUp(
    (output, _direction, _bytes, token) => output.verdict(token, { kind: 'drop' }),
    { ahead },
  );
  data.waiting.push({ id: 1, bytes: segment(ACK) });
  const done = [1, 2, 3, 4].map(() => {
    loop.turn(500);
    return [pieces, waited.at(-1)?.[0]];
  });
  assert.deepEqual(done, [
    [2, 0],
    [1, 0],
    [0, 0],
    [0, 500],
  ]);
});

test('a held packet is answered by the next turn, whichever queue brings the decision', () => {
  let first: number | undefined;
  const { setup, data, loop } = setUp((output, _direction, _bytes, token) => {
    if (first !== undefined) for (const each of [first, token]) output.verdict(each, { kind: 'accept' });
    first ??= token;
  });
  data.waiting.push({ id: 1, bytes: segment(ACK, 1) });
  loop.turn(0);
  setup.waiting.push({ id: 2, bytes: segment(ACK, 1) });
  loop.turn(0);
  loop.turn(0);
  assert.deepEqual([data.flushed, setup.flushed], [1, 1]);
});

test('an error in a timer or in administration is counted and the loop goes on', () => {
  const { loop, count } = setUp(faulty, {
    due: 0,
    advance: () => {
      throw new RangeError('x');
    },
  });
  loop.turn(0);
  assert.equal(count('tcpcrypt_packet_errors_total', { queue: 'timer', kind: 'RangeError' }), 1);
  assert.equal(
    loop.administer(() => {}),
    true,
  );
  assert.equal(
    loop.administer(() => assert.fail('x')),
    false,
  );
});

test('payload of encrypted connections is counted as the application sees it', () => {
  const { loop, data, count } = setUp((output, direction, _bytes, token, mark) => {
    const bytes = direction === 'in' ? segment(ACK, 30) : segment(ACK, 1000);
    output.verdict(token, { kind: 'accept', bytes, ...(mark === 'none' && { mark: 'plain' }) });
  });
  data.waiting.push(
    { id: 1, bytes: segment(ACK, 20) },
    { id: 2, bytes: segment(ACK, 50), hook: hooks.prerouting },
    { id: 3, bytes: segment(ACK, 50), mark: markOf(layout, QUEUED_WITHOUT_STATE as ConnectionState) },
  );
  loop.turn(0);
  assert.equal(count('tcpcrypt_payload_bytes_total', { direction: 'out' }), 20);
  assert.equal(count('tcpcrypt_payload_bytes_total', { direction: 'in' }), 30);
});

test('payload that leaves in other packets is counted, once; what waits for more comes with that', () => {
  const { loop, data, count } = setUp((output, _direction, _bytes, token) =>
    output.verdict(token, { kind: 'drop', elsewhere: true }),
  );
  data.waiting.push(
    { id: 1, bytes: segment(ACK, 20) },
    { id: 2, bytes: segment(ACK, 50), hook: hooks.prerouting },
  );
  loop.turn(0);
  assert.equal(count('tcpcrypt_payload_bytes_total', { direction: 'out' }), 20);
  assert.equal(count('tcpcrypt_payload_bytes_total', { direction: 'in' }), 0);
  assert.deepEqual(
    data.given.map(([, verdict]) => verdict),
    [verdicts.drop, verdicts.drop],
  );
});

test('own packets: to link-local peers by the interface they were last seen on', () => {
  const linkLocal = (peerAt: number): Uint8Array => {
    const bytes = new Uint8Array(60);
    bytes[0] = 0x60;
    bytes[6] = 6;
    bytes.set([0xfe, 0x80], 8);
    bytes.set([0xfe, 0x80], 24);
    bytes[peerAt + 15] = 99;
    return bytes;
  };
  const { loop, data, sent, count } = setUp((output, _direction, _bytes, token) => {
    output.verdict(token, { kind: 'drop' });
    output.inject('network', linkLocal(24));
    output.inject('network', new Uint8Array(1));
    output.inject('kernel', linkLocal(8));
  });
  data.waiting.push({ id: 1, bytes: linkLocal(8), hook: hooks.prerouting });
  loop.turn(0);
  assert.deepEqual(
    sent.map(([, ifindex]) => ifindex),
    [11, undefined, undefined],
  );
  assert.equal(count('tcpcrypt_injected_packets_total', { to: 'network', result: 'sent' }), 1);
  assert.equal(count('tcpcrypt_injected_packets_total', { to: 'network', result: 'failed' }), 1);
  assert.equal(count('tcpcrypt_injected_packets_total', { to: 'kernel', result: 'sent' }), 1);
});
