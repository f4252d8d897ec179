import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { increases, policyGeneration, readCounters } from './totals.ts';

const text = `# HELP tcpcrypt_connections_total x
# TYPE tcpcrypt_connections_total counter
tcpcrypt_connections_total{role="active",peer="known",outcome="encrypted",handshake="full",authenticated="false"} 3
tcpcrypt_connections_total{role="passive",peer="known",outcome="encrypted",handshake="cached",authenticated="false"} 4
tcpcrypt_connections_total{role="active",peer="external",outcome="plain",handshake="none",authenticated="false"} 1
tcpcrypt_fallbacks_total{role="active",peer="external",reason="peer_unsupported"} 1
tcpcrypt_session_cache_lookups_total{role="active",result="hit"} 4
tcpcrypt_payload_bytes_total{direction="sent"} 99
tcpcrypt_policy_info{generation="2f00"} 1
`;

test('counters lose the labels that are not summed', () => {
  assert.deepEqual(Object.fromEntries(readCounters(text)), {
    'tcpcrypt_namespace_connections_total known encrypted': 7,
    'tcpcrypt_namespace_connections_total external plain': 1,
    'tcpcrypt_namespace_fallbacks_total external peer_unsupported': 1,
    'tcpcrypt_namespace_session_cache_lookups_total hit': 4,
  });
  assert.equal(policyGeneration(text), '2f00');
  assert.equal(policyGeneration(''), undefined);
});

test('only what was added counts, and what fell has begun anew', () => {
  const of = (plain: number) =>
    readCounters(`tcpcrypt_connections_total{peer="known",outcome="plain"} ${plain}`);
  const amounts = (before: number, now: number) => increases(of(before), of(now)).map(({ amount }) => amount);
  assert.deepEqual(amounts(5, 8), [3]);
  assert.deepEqual(amounts(5, 5), []);
  assert.deepEqual(amounts(5, 2), [2]);
  const [first] = increases(new Map(), of(5));
  const counter = 'tcpcrypt_namespace_connections_total';
  assert.deepEqual(first, { counter, values: ['known', 'plain'], amount: 5 });
});

test('a pod that lies makes no new label, nor a number that is none', () => {
  const lies = `tcpcrypt_connections_total{peer="10.0.0.1",outcome="x"} 1
tcpcrypt_connections_total{peer="known",outcome="plain"} -1
tcpcrypt_connections_total{peer="known",outcome="plain"} 1e400
tcpcrypt_connections_total{peer="known",outcome="plain"} NaN
tcpcrypt_namespace_connections_total{peer="known",outcome="plain"} 1`;
  assert.deepEqual(Object.fromEntries(readCounters(lies)), {
    'tcpcrypt_namespace_connections_total other other': 1,
  });
  fc.assert(fc.property(fc.string(), (any) => readCounters(any).size === 0));
});
