import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bucketsOf, type MetricName, Metrics, metrics, prepareSeries } from './metrics.ts';
import { CounterReader, Counters } from './shared-counters.ts';

/** What the outside may rely on: names and labels are fixed. Path checks come with the check server. */
const fixed: Record<string, readonly string[]> = {
  tcpcrypt_connections_total: ['role', 'peer', 'outcome', 'handshake', 'authenticated'],
  tcpcrypt_connections: ['state'],
  tcpcrypt_fallbacks_total: ['role', 'peer', 'reason'],
  tcpcrypt_session_cache_lookups_total: ['role', 'result'],
  tcpcrypt_session_cache_entries: [],
  tcpcrypt_handshake_duration_seconds: ['role', 'handshake'],
  tcpcrypt_payload_bytes_total: ['direction'],
  tcpcrypt_packets_total: ['queue', 'verdict'],
  tcpcrypt_queue_dropped_packets_total: ['queue'],
  tcpcrypt_packet_latency_seconds: [],
  tcpcrypt_mac_failures_total: [],
  tcpcrypt_rekeys_total: ['direction'],
  tcpcrypt_policy_info: ['generation'],
  tcpcrypt_trust_key_info: ['key_id', 'state'],
};

function setUp(): { metrics: Metrics; counters: Counters } {
  const reader = new CounterReader();
  const source = reader.source();
  const counters = new Counters(source.memory, source.announced);
  return { metrics: new Metrics(reader), counters };
}

/** Sample lines of a metric. */
async function lines(all: Metrics, name: string): Promise<string[]> {
  const text = await all.text();
  return text.split('\n').filter((line) => line.startsWith(name));
}

test('the fixed metrics have their names and labels', () => {
  for (const [name, labels] of Object.entries(fixed)) {
    assert.deepEqual(metrics[name as MetricName]?.labels, labels, name);
  }
  assert.ok('tcpcrypt_build_info' in metrics);
});

test('names tell type and unit, help is a sentence, histograms have ascending buckets', () => {
  for (const [name, { type, help, labels, buckets = [] }] of Object.entries(metrics)) {
    assert.match(name, /^tcpcrypt_[a-z_]+$/);
    assert.equal(name.endsWith('_total'), type === 'counter', name);
    assert.match(help, /\.$/);
    assert.equal(buckets.length > 0, type === 'histogram');
    assert.deepEqual(
      buckets,
      buckets.toSorted((a, b) => a - b),
    );
    if (type === 'histogram') assert.match(name, /_seconds$/);
    for (const label of labels) assert.doesNotMatch(label, /address|ip|pod|port/);
  }
});

test('what several packet threads count is one sum, histograms too', async () => {
  const reader = new CounterReader();
  const threads = [0, 1].map(() => {
    const source = reader.source();
    return new Counters(source.memory, source.announced);
  });
  for (const [i, counters] of threads.entries()) {
    // At other places in the memory of each.
    if (i === 1) counters.slot('tcpcrypt_session_cache_entries');
    counters.add(counters.slot('tcpcrypt_packets_total', { queue: 'data', verdict: 'accept' }), 3 + i);
    counters
      .histogram('tcpcrypt_packet_latency_seconds', metrics.tcpcrypt_packet_latency_seconds.buckets!)
      .observe(0);
  }
  const only = threads[1]!;
  only.add(only.slot('tcpcrypt_packets_total', { queue: 'setup', verdict: 'drop' }), 2);
  const all = new Metrics(reader);
  assert.deepEqual(await lines(all, 'tcpcrypt_packets_total{'), [
    'tcpcrypt_packets_total{queue="data",verdict="accept"} 7',
    'tcpcrypt_packets_total{queue="setup",verdict="drop"} 2',
  ]);
  assert.deepEqual(await lines(all, 'tcpcrypt_packet_latency_seconds_count'), [
    'tcpcrypt_packet_latency_seconds_count 2',
  ]);
});

test('what the packet thread counts is exported, series by series', async () => {
  const { metrics: all, counters } = setUp();
  const labels = { role: 'C', peer: 'known', reason: 'policy' };
  counters.add(counters.slot('tcpcrypt_fallbacks_total', labels));
  counters.add(counters.slot('tcpcrypt_fallbacks_total', { ...labels }), 2);
  counters.add(counters.slot('tcpcrypt_fallbacks_total', { ...labels, peer: 'node' }));
  counters.set(counters.slot('tcpcrypt_connections', { state: 'encrypted' }), 7);
  counters.set(counters.slot('tcpcrypt_connections', { state: 'encrypted' }), 5);
  assert.deepEqual(await lines(all, 'tcpcrypt_fallbacks_total'), [
    'tcpcrypt_fallbacks_total{role="C",peer="known",reason="policy"} 3',
    'tcpcrypt_fallbacks_total{role="C",peer="node",reason="policy"} 1',
  ]);
  assert.deepEqual(await lines(all, 'tcpcrypt_connections{'), ['tcpcrypt_connections{state="encrypted"} 5']);
  // Scraping twice counts nothing twice.
  assert.equal((await lines(all, 'tcpcrypt_fallbacks_total'))[0]!.split(' ')[1], '3');
});

test('a histogram: cumulated buckets by upper bound, sum and count', async () => {
  const { metrics: all, counters } = setUp();
  const name = 'tcpcrypt_handshake_duration_seconds';
  const bounds = bucketsOf(name);
  const histogram = counters.histogram(name, bounds, { role: 'S', handshake: 'full' });
  histogram.observe(0.001);
  histogram.observe(0.0011, 2);
  histogram.observe(99);
  const got = await lines(all, name);
  const buckets = got.filter((line) => line.includes('_bucket'));
  assert.equal(buckets.length, bounds.length + 1);
  assert.equal(buckets[0], `${name}_bucket{le="0.0005",role="S",handshake="full"} 0`);
  assert.equal(buckets[1], `${name}_bucket{le="0.001",role="S",handshake="full"} 1`);
  assert.equal(buckets[2], `${name}_bucket{le="0.0025",role="S",handshake="full"} 3`);
  assert.equal(buckets.at(-2), `${name}_bucket{le="5",role="S",handshake="full"} 3`);
  assert.equal(buckets.at(-1), `${name}_bucket{le="+Inf",role="S",handshake="full"} 4`);
  const sum = Number(got.find((line) => line.includes('_sum'))!.split(' ')[1]);
  assert.ok(Math.abs(sum - 99.0032) < 1e-9);
  assert.equal(got.at(-1), `${name}_count{role="S",handshake="full"} 4`);
});

test('the main thread’s own: counted, set and replaced', async () => {
  const { metrics: all } = setUp();
  all.add('tcpcrypt_listen_errors_total', { listener: 'metrics' });
  all.replace('tcpcrypt_policy_info', [[{ generation: 'a' }, 1]]);
  all.replace('tcpcrypt_policy_info', [[{ generation: 'b' }, 1]]);
  all.replace('tcpcrypt_queue_dropped_packets_total', [[{ queue: 'setup' }, 3]]);
  all.replace('tcpcrypt_queue_dropped_packets_total', [[{ queue: 'setup' }, 4]]);
  assert.deepEqual(await lines(all, 'tcpcrypt_listen'), [
    'tcpcrypt_listen_errors_total{listener="metrics"} 1',
  ]);
  assert.deepEqual(await lines(all, 'tcpcrypt_policy'), ['tcpcrypt_policy_info{generation="b"} 1']);
  assert.deepEqual(await lines(all, 'tcpcrypt_queue'), [
    'tcpcrypt_queue_dropped_packets_total{queue="setup"} 4',
  ]);
});

test('counters that alerts watch are there before the first event', async () => {
  const { metrics: all, counters } = setUp();
  prepareSeries((name, labels) => counters.slot(name, labels));
  assert.deepEqual(await lines(all, 'tcpcrypt_mac_failures_total'), ['tcpcrypt_mac_failures_total 0']);
  assert.equal((await lines(all, 'tcpcrypt_session_cache_lookups_total')).length, 4);
});

test('more series than there is room for disturb no others', async () => {
  const { metrics: all, counters } = setUp();
  const first = counters.slot('tcpcrypt_mac_failures_total');
  for (let i = 0; i < 20_000; i++) {
    counters.add(counters.slot('tcpcrypt_dropped_packets_total', { reason: String(i) }));
  }
  counters
    .histogram('tcpcrypt_packet_latency_seconds', bucketsOf('tcpcrypt_packet_latency_seconds'))
    .observe(1);
  counters.add(first);
  assert.deepEqual(await lines(all, 'tcpcrypt_mac_failures_total'), ['tcpcrypt_mac_failures_total 1']);
  const exported = await lines(all, 'tcpcrypt_dropped_packets_total');
  assert.ok(exported.length > 16_000);
  assert.ok(exported.every((line) => line.endsWith(' 1')));
});
