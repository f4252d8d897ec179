/** Thousands of simulated runs of the real rewriter, and what a clean path must be like. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it, type TestContext } from 'node:test';
import { passThrough } from './machine.ts';
import { productionMachine, realMachine } from './real-machine.ts';
import { type Amend, replayCommand, runSeed, summary, tally, withoutRewriters } from './run.ts';
import { bulk, CLIENT_FIRST, calm, SERVER_FIRST } from './scenarios.testing.ts';
import { silent } from './trace.ts';

const SEEDS = Number(process.env['SIMULATION_SEEDS'] ?? 4000);
const MAX_MS = 150_000;

/** Runs seeds from 1 on until the time is over; none may violate anything. Returns what they saw. */
function runSeeds(t: TestContext, seeds: number, amend?: Amend, flag = ''): (name: string) => number {
  const counters = tally();
  const started = Date.now();
  const failures: string[] = [];
  for (let seed = 1; seed <= seeds && failures.length < 5; seed++) {
    const result = runSeed(seed, realMachine, undefined, amend);
    counters.add(result);
    const [first] = result.violations;
    if (first !== undefined)
      failures.push(`${first.property}: ${first.detail}\n    ${replayCommand(seed)}${flag}`);
    if (Date.now() - started > MAX_MS) {
      t.diagnostic(`stopped after seed ${seed}: a slow machine`);
      break;
    }
  }
  t.diagnostic(summary(counters));
  assert.deepEqual(failures, []);
  return (name) => counters.counts.get(name) ?? 0;
}

describe('the rewriter over a simulated network', () => {
  it(`holds every property over ${SEEDS} seeds`, (t) => {
    const count = runSeeds(t as TestContext, SEEDS);
    assert.ok(count('encrypted') > count('connections') / 3);
    assert.ok(count('cached') > 0);
  });

  it(`holds every property with super-segments that are cut, joined, lost and reordered, over ${SEEDS / 4} seeds`, (t) => {
    const count = runSeeds(t as TestContext, SEEDS / 4, bulk, ' --bulk');
    assert.ok(count('super-segments out') > count('encrypted'), 'super-segments leave');
    assert.ok(count('super-segments in') > count('encrypted') / 2, 'some come whole, others in pieces');
    assert.ok(count('super-segments in') < count('super-segments out'));
  });
});

describe('what production does', () => {
  const SAME_SEEDS = 300;

  it(`makes the same packets, with the addon's transforms and the quick way, over ${SAME_SEEDS} seeds`, () => {
    let packets = 0;
    const wire = (seed: number, machine: typeof realMachine): string => {
      const hash = createHash('sha256');
      const capture = (now: number, bytes: Uint8Array): void => {
        packets++;
        hash.update(`${now} `).update(bytes);
      };
      assert.deepEqual(runSeed(seed, machine, { ...silent, capture }).violations, []);
      return hash.digest('hex');
    };
    for (let seed = 1; seed <= SAME_SEEDS; seed++) {
      assert.equal(wire(seed, productionMachine), wire(seed, realMachine), replayCommand(seed));
    }
    assert.ok(packets > 20 * SAME_SEEDS);
  });
});

describe('nothing is delayed', () => {
  /** When each of the two connections' applications had read everything, from its SYN on. */
  const times = (machine: typeof passThrough, dialogue: typeof CLIENT_FIRST, amend: Amend): number[] => {
    const result = runSeed(5, machine, undefined, (scenario) => amend(calm(scenario, dialogue)));
    assert.deepEqual(result.violations, []);
    return result.connections.map(({ opener, listener, openedAt }) => {
      assert.ok(opener?.complete && listener?.complete);
      return Math.max(opener.lastReadAt, listener.lastReadAt) - openedAt!;
    });
  };
  const onlyOne = (host: 'a' | 'b'): Amend => {
    return (scenario) => ({
      ...scenario,
      hosts: { ...scenario.hosts, [host]: { ...scenario.hosts[host], rewriter: false } },
    });
  };
  const same: Amend = (scenario) => scenario;
  const ROUND_TRIP_MS = 40;

  for (const [name, dialogue] of [
    ['the client speaks first', CLIENT_FIRST],
    ['the server speaks first', SERVER_FIRST],
  ] as const) {
    it(`${name}: a peer without a rewriter costs no time at all`, () => {
      const alone = times(passThrough, dialogue, withoutRewriters);
      assert.deepEqual(times(realMachine, dialogue, onlyOne('b')), alone);
      assert.deepEqual(times(realMachine, dialogue, onlyOne('a')), alone);
    });

    it(`${name}: a full handshake costs one round trip, a cached one none`, () => {
      const [alone] = times(passThrough, dialogue, withoutRewriters);
      const [full, cached] = times(realMachine, dialogue, same);
      // The server that greets waits for C's first MAC, one round trip more than INIT1 takes.
      assert.ok(full! <= alone! + ROUND_TRIP_MS + 1, `${full} ms against ${alone} ms`);
      assert.ok(cached! <= alone! + 1, `${cached} ms against ${alone} ms`);
    });
  }
});
