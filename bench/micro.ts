/**
 * `npm run bench:micro`: what the primitives and the packet path cost, a packet at a time, without a kernel: CPU
 * nanoseconds and bytes allocated on JavaScript's heap. CPU time, and the best of several rounds, so that a busy
 * machine changes little. `--filter TEXT` runs only the rows whose name has it.
 */

import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { getHeapStatistics } from 'node:v8';
import { type SegmentInPlace, suites } from '../sidecar/crypto/asm.ts';
import { nativeSuites } from '../sidecar/nfqueue-bindings/suites.ts';
import { cachedSessions, liveConnections } from './lookups.ts';
import { encryptedPath } from './packet-path.ts';

const { values } = parseArgs({ options: { filter: { type: 'string', default: '' } } });
const ROUNDS = 7;
const LENGTHS = [0, 64, 1448, 65_000];

interface Cost {
  readonly nanoseconds: number;
  readonly allocatedBytes: number;
}

/** The least that one call of `work` took; it does `count` pieces of work. */
function measure(count: number, work: () => void, prepare: () => void = () => {}): Cost {
  let best: Cost = { nanoseconds: Number.POSITIVE_INFINITY, allocatedBytes: Number.POSITIVE_INFINITY };
  for (let round = 0; round < ROUNDS; round++) {
    prepare();
    const allocated = getHeapStatistics().total_allocated_bytes;
    const before = process.cpuUsage();
    work();
    const { user, system } = process.cpuUsage(before);
    const nanoseconds = ((user + system) * 1000) / count;
    const allocatedBytes = (getHeapStatistics().total_allocated_bytes - allocated) / count;
    best = {
      nanoseconds: Math.min(best.nanoseconds, nanoseconds),
      allocatedBytes: Math.min(best.allocatedBytes, allocatedBytes),
    };
  }
  return best;
}

function print(name: string, { nanoseconds, allocatedBytes }: Cost, dataBytes: number): void {
  const rate = dataBytes > 0 ? `${(dataBytes / nanoseconds).toFixed(2).padStart(7)} GB/s` : '';
  const allocated = allocatedBytes.toFixed(0).padStart(6);
  console.log(`${name.padEnd(58)} ${nanoseconds.toFixed(0).padStart(8)} ns ${allocated} B ${rate}`);
}

const wanted = (name: string): boolean => name.includes(values.filter);

function primitives(): void {
  for (const [where, set] of [
    ['native', nativeSuites],
    ['TypeScript', suites],
  ] as const) {
    for (const suite of set.values()) {
      if (suite.aggregate) continue;
      const asm = suite.asm(new Uint8Array(32).fill(7));
      for (const length of LENGTHS) {
        const name = `seal ${suite.name} ${where} ${length} bytes`;
        if (!wanted(name)) continue;
        const segment: SegmentInPlace = {
          bytes: new Uint8Array(64 + length),
          ...{ tagAt: 20, dataAt: 64, end: 64 + length },
          ...{ assoc: new Uint8Array(60), assocBytes: 52, offset: 1, ackOffset: 1 },
        };
        const count = Math.ceil((where === 'native' ? 30_000 : 3000) / (1 + length / 4000));
        const work = (): void => {
          for (let i = 0; i < count; i++) {
            segment.offset += 1449;
            asm.seal(segment);
          }
        };
        print(name, measure(count, work), length);
      }
      asm.destroy();
    }
  }
}

function packetPath(): void {
  for (const suite of suites.values()) {
    for (const kind of suite.aggregate ? (['super-segment'] as const) : (['data', 'ack'] as const)) {
      for (const way of ['quick', 'general'] as const) {
        const [out, inward] = ['out', 'in'].map((side) => `${side}: ${kind} ${suite.name} ${way}`) as [
          string,
          string,
        ];
        if (!wanted(out) && !wanted(inward)) continue;
        const path = encryptedPath(suite, kind, way);
        print(out, measure(path.count, path.send), 0);
        print(inward, measure(path.count, path.receive, path.send), 0);
      }
    }
  }
}

/** As many as a busy host has: what a lookup costs must not depend on it. */
const CONNECTIONS = [100, 10_000];
const SESSIONS = [1000, 100_000];

function lookUps(): void {
  for (const count of CONNECTIONS) {
    const name = `find one of ${count} live connections`;
    if (!wanted(name)) continue;
    const { packets, find } = liveConnections(count);
    print(name, measure(packets, find), 0);
  }
  for (const count of SESSIONS) {
    const name = `refuse a session that is none of ${count} cached`;
    if (!wanted(name)) continue;
    const cache = cachedSessions(count);
    const unknown = Array.from({ length: 20_000 }, () => randomBytes(9));
    print(
      name,
      measure(unknown.length, () => {
        for (const sid of unknown) if (cache.accept(sid, 0) !== undefined) throw new Error('it is not there');
      }),
      0,
    );
  }
}

console.log(`${''.padEnd(58)} ${'CPU'.padStart(11)} ${'heap'.padStart(8)}`);
primitives();
packetPath();
lookUps();
