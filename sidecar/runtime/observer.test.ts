import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Observer } from '../rewriter/types.ts';
import { KeyLog } from './keylog.ts';
import { createObserver, limitLog } from './observer.ts';
import { createClassifier, parseBlocks } from './peers.ts';
import { CounterReader, Counters } from './shared-counters.ts';
import { encrypted, plain, temporaryDirectory } from './testing.ts';

function setUp(verbose = false, keyLog?: KeyLog) {
  const reader = new CounterReader();
  const source = reader.source();
  const counters = new Counters(source.memory, source.announced);
  const lines: [level: string, message: string, fields: Record<string, unknown>][] = [];
  const classify = createClassifier(parseBlocks(['10.0.0.0/8', 'fd00::/8']), parseBlocks(['10.0.0.7']));
  const log = (...line: (typeof lines)[number]): void => void lines.push(line);
  const observer = createObserver({ counters, classify, log, verbose, keyLog });
  const read = (metric: string) => reader.read(metric).map(({ labels, values }) => [labels, values[0]]);
  return { observer, lines, read };
}

const decided = { handshake: 'none', durationMs: 20, peerKnown: false, wouldRefuse: false } as const;
const outcomes: Record<'encrypted' | 'plain' | 'refused', Parameters<Observer['decided']>[0]> = {
  encrypted: { ...decided, connection: encrypted, outcome: 'encrypted', handshake: 'full', peerKnown: true },
  plain: { ...decided, connection: plain, outcome: 'plain' },
  refused: { ...decided, connection: { ...plain, local: '[fd00::1]:81' }, outcome: 'refused' },
};

test('each decision is counted, fallbacks by reason, handshakes by time', () => {
  const { observer, read } = setUp();
  for (const event of Object.values(outcomes)) observer.decided(event);
  assert.deepEqual(read('tcpcrypt_connections_total'), [
    [{ role: 'C', peer: 'known', outcome: 'encrypted', handshake: 'full', authenticated: 'true' }, 1],
    [{ role: 'S', peer: 'cluster', outcome: 'plain', handshake: 'none', authenticated: 'false' }, 1],
    [{ role: 'S', peer: 'cluster', outcome: 'refused', handshake: 'none', authenticated: 'false' }, 1],
  ]);
  assert.deepEqual(read('tcpcrypt_fallbacks_total'), [
    [{ role: 'S', peer: 'cluster', reason: 'peer_unsupported' }, 2],
  ]);
  assert.deepEqual(
    read('tcpcrypt_handshake_duration_seconds').map(([labels]) => labels),
    [{ role: 'C', handshake: 'full' }],
  );
});

test('refusals are logged always, other outcomes only when asked for', () => {
  const quiet = setUp();
  const verbose = setUp(true);
  for (const event of Object.values(outcomes)) {
    quiet.observer.decided(event);
    verbose.observer.decided(event);
  }
  assert.deepEqual(
    quiet.lines.map(([level, message]) => `${level}: ${message}`),
    ['warn: connection refused by policy'],
  );
  assert.equal(verbose.lines.length, 3);
  const { local, reason } = quiet.lines[0]![2];
  assert.deepEqual([local, reason], ['[fd00::1]:81', 'peer_unsupported']);
});

test('mode Audit: what Strict would have refused is counted and logged', () => {
  const { observer, read, lines } = setUp();
  observer.decided({ ...outcomes.plain, wouldRefuse: true });
  assert.deepEqual(read('tcpcrypt_audit_violations_total'), [
    [{ role: 'S', peer: 'cluster', reason: 'peer_unsupported' }, 1],
  ]);
  assert.equal(lines.length, 1);
});

test('the smaller events', () => {
  const { observer, read } = setUp();
  observer.cacheLookup('C', true);
  observer.cacheLookup('S', false);
  observer.rekeyed('out');
  observer.macFailure();
  observer.dropped('held');
  assert.deepEqual(read('tcpcrypt_session_cache_lookups_total'), [
    [{ role: 'C', result: 'hit' }, 1],
    [{ role: 'S', result: 'miss' }, 1],
  ]);
  assert.deepEqual(read('tcpcrypt_rekeys_total'), [[{ direction: 'out' }, 1]]);
  assert.deepEqual(read('tcpcrypt_mac_failures_total'), [[{}, 1]]);
  assert.deepEqual(read('tcpcrypt_dropped_packets_total'), [[{ reason: 'held' }, 1]]);
  assert.equal(observer.secret, undefined);
});

test('peers: known first, then node, cluster, external', () => {
  const classify = createClassifier(
    parseBlocks(['10.0.0.0/8', 'fd00::/8']),
    parseBlocks(['10.0.0.7', 'fd00::7']),
  );
  assert.equal(classify('8.8.8.8:53', true), 'known');
  assert.equal(classify('10.0.0.7:10250', false), 'node');
  assert.equal(classify('[fd00::7]:10250', false), 'node');
  assert.equal(classify('10.0.0.8:80', false), 'cluster');
  assert.equal(classify('[::ffff:10.0.0.8]:80', false), 'cluster');
  assert.equal(classify('[fd00::8]:80', false), 'cluster');
  assert.equal(classify('[2001:db8::1]:80', false), 'external');
  assert.equal(classify('', false), 'external');
  assert.throws(() => parseBlocks(['10.0.0.0/33']), { code: 'ERR_TCPCRYPT_USAGE' });
});

test('the key log: appended, for its owner alone, one line a connection', (t) => {
  const path = join(temporaryDirectory(t), 'keys.log');
  const failures: Error[] = [];
  for (const byte of [1, 2]) {
    const keyLog = new KeyLog(path, (error) => failures.push(error));
    const { observer } = setUp(false, keyLog);
    observer.secret!(
      new Uint8Array(32).fill(byte),
      new Uint8Array(32).fill(0xff),
      '10.0.0.1:4',
      '[fd00::1]:80',
    );
    keyLog.close();
    // A line that cannot be written any more is told, not thrown.
    observer.secret!(new Uint8Array(32), new Uint8Array(32), '10.0.0.1:4', '10.0.0.2:5');
  }
  const line = (sid: string) =>
    `TCPCRYPT_SECRET ${sid.repeat(32)} ${'ff'.repeat(32)} 10.0.0.1:4 [fd00::1]:80\n`;
  assert.equal(readFileSync(path, 'utf8'), line('01') + line('02'));
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(failures.length, 2);
  assert.throws(() => new KeyLog('/nowhere/at/all', () => {}), { code: 'ERR_TCPCRYPT_USAGE' });
});

test('a flood of lines is cut, and what was cut is said', () => {
  let now = 0;
  const sent: [string, string, Record<string, unknown>][] = [];
  const log = limitLog(
    (...line) => void sent.push(line),
    () => now,
  );
  for (let i = 0; i < 25; i++) log('warn', 'refused', { i });
  log('warn', 'something else', {});
  assert.equal(sent.length, 11);
  now = 10_000;
  log('warn', 'refused', { i: 26 });
  assert.deepEqual(sent.at(-1), ['warn', 'refused', { i: 26, suppressed: 15 }]);
});
