import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { KEY_EXCHANGES, SUITES } from './algorithms.ts';
import { parsePolicy } from './document.ts';
import { type CompiledPolicy, compilePolicy } from './evaluate.ts';
import { builtInPolicy } from './testing.ts';

const compile = (text: string): CompiledPolicy => compilePolicy(parsePolicy(text).document);

test('the first rule that matches decides', () => {
  const policy = compile(`
mode: Opportunistic
rules:
  - {direction: Inbound, ports: [{port: 5432}, {port: 8000, endPort: 8099}], peers: [{cidr: 10.0.0.0/8, except: [10.9.0.0/16]}], mode: Strict, authentication: Required}
  - {direction: Inbound, ports: [{port: 5432}], mode: Audit}
  - {direction: Outbound, peers: [{cidr: "fd00::/8"}, {cidr: 192.168.0.0/16}], mode: Disabled}
  - {ports: [{port: 22}], mode: Disabled}
  - {ports: [{port: 22}], mode: Strict}
`);
  for (const [direction, port, peer, mode, authentication] of [
    ['Inbound', 5432, '10.1.2.3', 'Strict', 'Required'],
    ['Inbound', 8000, '::ffff:10.1.2.3', 'Strict', 'Required'],
    ['Inbound', 8099, '10.1.2.3', 'Strict', 'Required'],
    ['Inbound', 8100, '10.1.2.3', 'Opportunistic', 'Optional'],
    ['Inbound', 7999, '10.1.2.3', 'Opportunistic', 'Optional'],
    ['Inbound', 5432, '10.9.1.1', 'Audit', 'Optional'],
    ['Inbound', 5432, 'fd00::1', 'Audit', 'Optional'],
    ['Outbound', 5432, '10.1.2.3', 'Opportunistic', 'Optional'],
    ['Outbound', 443, 'fd12::1', 'Disabled', 'Optional'],
    ['Outbound', 443, '192.168.7.7', 'Disabled', 'Optional'],
    ['Inbound', 443, '192.168.7.7', 'Opportunistic', 'Optional'],
    ['Inbound', 22, '1.2.3.4', 'Disabled', 'Optional'],
    ['Outbound', 22, '1.2.3.4', 'Disabled', 'Optional'],
    ['Outbound', 443, 'not an address', 'Opportunistic', 'Optional'],
    ['Outbound', 22, 'not an address', 'Disabled', 'Optional'],
  ] as const) {
    const decision = policy.decide(direction, port, peer);
    assert.deepEqual(
      [decision.mode, decision.authentication],
      [mode, authentication],
      `${direction} ${port} ${peer}`,
    );
  }
});

test('the built-in policy is opportunistic everywhere', () => {
  const policy = builtInPolicy();
  assert.deepEqual(policy.decide('Inbound', 80, '8.8.8.8'), {
    mode: 'Opportunistic',
    authentication: 'Optional',
  });
  assert.deepEqual(policy.keyExchanges, [0x210, 0x202, 0x200, 0x201]);
  assert.deepEqual(policy.suites, [0x601, 0x600, 0x101, 0x401, 0x501, 0x100, 0x400, 0x500, 0x300]);
  assert.deepEqual(policy.sessionCache, { enabled: true, maxEntries: 10_000, lifetimeMs: 3_600_000 });
  assert.deepEqual(policy.rekey, { afterBytes: 2 ** 36, afterMs: 86_400_000 });
  assert.equal(policy.rstCheck, false);
  assert.equal(policy.generation, compile('{mode: Opportunistic, x: 1}').generation);
});

test('the generation names the content, however it is written', () => {
  const texts = [
    '{}',
    'mode: Strict',
    'authentication: Required',
    'rstCheck: true',
    'rekey: {after: 0s}',
    'rekey: {after: 1h}',
    'rekey: {afterBytes: 1G}',
    'sessionCache: {enabled: false}',
    'sessionCache: {lifetime: 2h}',
    'algorithms: {suites: [AES-128-CTR-GMAC]}',
    'algorithms: {keyExchanges: [X25519]}',
    'pathChecks: {server: a}',
    'rules: [{mode: Strict}]',
    'rules: [{mode: Strict, ports: [{port: 1}]}]',
    'rules: [{mode: Strict, peers: [{cidr: 10.0.0.0/8}]}]',
    'rules: [{mode: Strict, peers: [{cidr: 10.0.0.0/9}]}]',
    'rules: [{mode: Strict, peers: [{cidr: 10.0.0.0/8, except: [10.0.0.0/9]}]}]',
  ];
  const generations = texts.map((text) => compile(text).generation);
  assert.equal(new Set(generations).size, texts.length);
  assert.ok(generations.every((generation) => /^[0-9a-f]{12}$/.test(generation)));
  assert.equal(
    compile('{rekey: {after: 60m}, rules: [{mode: Strict, peers: [{cidr: 10.1.1.1/8}], ports: []}]}')
      .generation,
    compile(
      'rules: [{direction: Both, peers: [{cidr: 10.0.0.0/8, except: []}], mode: Strict}]\nrekey: {after: 1h}',
    ).generation,
  );
});

test('names and numbers of wire.md, section 2', () => {
  assert.deepEqual([...KEY_EXCHANGES.values()], [0x210, 0x202, 0x200, 0x201, 0x100]);
  assert.equal(SUITES.size, 10);
  for (const [name, id] of SUITES) {
    assert.equal(id % 0x100, name.endsWith('-AGGREGATE') ? 1 : 0);
  }
  assert.equal(SUITES.get('CHACHA20-HMAC-SHA256-AGGREGATE'), 0x501);
});

test('property: a policy is its rules, read one by one', () => {
  const rule = fc.record({
    direction: fc.constantFrom('Inbound', 'Outbound', 'Both'),
    low: fc.integer({ min: 1, max: 20 }),
    span: fc.nat(5),
    cidr: fc.constantFrom(undefined, '10.0.0.0/8', '10.1.0.0/16', '10.1.2.0/24'),
    mode: fc.constantFrom('Strict', 'Audit', 'Disabled'),
  });
  const query = fc.record({
    direction: fc.constantFrom<'Inbound' | 'Outbound'>('Inbound', 'Outbound'),
    port: fc.integer({ min: 1, max: 25 }),
    peer: fc.constantFrom('10.1.2.3', '10.1.9.9', '10.9.9.9', '11.1.2.3'),
  });
  fc.assert(
    fc.property(
      fc.array(rule, { maxLength: 6 }),
      fc.array(query, { minLength: 1, maxLength: 20 }),
      (rules, queries) => {
        const policy = compile(
          JSON.stringify({
            rules: rules.map(({ direction, low, span, cidr, mode }) => ({
              direction,
              ports: [{ port: low, endPort: low + span }],
              ...(cidr === undefined ? {} : { peers: [{ cidr }] }),
              mode,
            })),
          }),
        );
        for (const { direction, port, peer } of queries) {
          const prefix = (cidr: string): string => cidr.replace(/(\.0)+\/.*/, '.');
          const first = rules.find(
            (r) =>
              (r.direction === 'Both' || r.direction === direction) &&
              port >= r.low &&
              port <= r.low + r.span &&
              (r.cidr === undefined || peer.startsWith(prefix(r.cidr))),
          );
          assert.equal(policy.decide(direction, port, peer).mode, first?.mode ?? 'Opportunistic');
        }
      },
    ),
  );
});
