import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { TcpcryptError } from '../errors/catalogue.ts';
import { formatCidr } from './cidr.ts';
import { checkPolicy, parsePolicy } from './document.ts';

const full = `
mode: Strict
authentication: Required
rules:
  - direction: Inbound
    ports: [{port: 5432}, {port: 8000, endPort: 8099}]
    peers: [{cidr: 10.0.0.0/8, except: [10.9.0.0/16]}]
    mode: Opportunistic
  - peers: [{cidr: "fd00::/8"}]
    authentication: Optional
sessionCache: {enabled: false, maxEntries: 5, lifetime: 1h30m}
algorithms: {keyExchanges: [P-256, X25519], suites: [AES-128-CTR-GMAC-AGGREGATE, AES-128-CTR-GMAC]}
rekey: {afterBytes: 1Gi, after: 90s}
pathChecks: {enabled: true, server: check.example.org}
rstCheck: true
`;

const problemsOf = (text: string): string => {
  try {
    parsePolicy(text);
  } catch (error) {
    assert.ok(error instanceof TcpcryptError);
    assert.equal(error.code, 'ERR_TCPCRYPT_POLICY_INVALID');
    return error.message;
  }
  throw new assert.AssertionError({ message: `accepted: ${text}` });
};

test('a whole document', () => {
  const { document, warnings } = parsePolicy(full);
  assert.deepEqual(warnings, []);
  const { rules, ...rest } = document;
  assert.deepEqual(rest, {
    mode: 'Strict',
    authentication: 'Required',
    sessionCache: { enabled: false, maxEntries: 5, lifetimeMs: 5_400_000 },
    algorithms: { keyExchanges: [0x200, 0x202], suites: [0x601, 0x600] },
    rekey: { afterBytes: 2 ** 30, afterMs: 90_000 },
    pathChecks: { enabled: true, server: 'check.example.org' },
    rstCheck: true,
  });
  assert.equal(rules.length, 2);
  assert.deepEqual(rules[0].ports, [
    { port: 5432, endPort: 5432 },
    { port: 8000, endPort: 8099 },
  ]);
  assert.deepEqual(
    rules[0].peers.map(({ cidr, except }) => [formatCidr(cidr), except.map(formatCidr)]),
    [['10.0.0.0/8', ['10.9.0.0/16']]],
  );
  assert.deepEqual(
    rules.map(({ direction, mode, authentication }) => [direction, mode, authentication]),
    [
      ['Inbound', 'Opportunistic', 'Required'],
      ['Both', 'Strict', 'Optional'],
    ],
    'what a rule leaves out is the document’s',
  );
});

test('JSON is read as YAML is, and {} is the built-in policy', () => {
  const { document, warnings } = parsePolicy('{}');
  assert.deepEqual(warnings, []);
  assert.deepEqual(document, {
    mode: 'Opportunistic',
    authentication: 'Optional',
    rules: [],
    sessionCache: { enabled: true, maxEntries: 10_000, lifetimeMs: 3_600_000 },
    algorithms: {
      keyExchanges: [0x210, 0x202, 0x200, 0x201],
      suites: [0x601, 0x600, 0x101, 0x401, 0x501, 0x100, 0x400, 0x500, 0x300],
    },
    rekey: { afterBytes: 2 ** 36, afterMs: 86_400_000 },
    pathChecks: { enabled: false, server: '' },
    rstCheck: false,
  });
  assert.deepEqual(parsePolicy(JSON.stringify({ mode: 'Audit', rules: null })).document.mode, 'Audit');
});

test('every problem is listed with its path', () => {
  const message = problemsOf(`
mode: strict
authentication: yes
rules:
  - ports: [{port: 0}, {port: 90, endPort: 80}, {endPort: 7}, {port: "80"}]
    peers: [{cidr: 10.0.0.1}, {cidr: 10.0.0.0/8, except: [11.0.0.0/16, "fd00::/16", 10.0.0.0/33]}, {}]
  - direction: In
    mode: Off
  - 7
sessionCache: {maxEntries: -1, lifetime: 0s, enabled: 1}
algorithms: []
rekey: {afterBytes: 128Gi, after: 1 hour}
pathChecks: {enabled: true}
rstCheck: "no"
`);
  assert.deepEqual(message.split('; '), [
    'mode: must be one of Opportunistic, Strict, Audit, Disabled, not "strict"',
    'authentication: must be one of Optional, Required, not "yes"',
    'rules[0]: must set mode or authentication',
    'rules[0].ports[0].port: must be a whole number from 1 to 65535, not 0',
    'rules[0].ports[1].endPort: must not be below port (90), not 80',
    'rules[0].ports[2].port: is missing',
    'rules[0].ports[3].port: must be a whole number from 1 to 65535, not "80"',
    'rules[0].peers[0].cidr: must be a CIDR block such as 10.0.0.0/8, 10.1.2.3/32 or fd00::/8, not "10.0.0.1"',
    'rules[0].peers[1].except[0]: must lie within "10.0.0.0/8", which "11.0.0.0/16" does not',
    'rules[0].peers[1].except[1]: must lie within "10.0.0.0/8", which "fd00::/16" does not',
    'rules[0].peers[1].except[2]: must be a CIDR block such as 10.0.0.0/8, 10.1.2.3/32 or fd00::/8, not "10.0.0.0/33"',
    'rules[0].peers[2].cidr: is missing',
    'rules[1].direction: must be one of Inbound, Outbound, Both, not "In"',
    'rules[1].mode: must be one of Opportunistic, Strict, Audit, Disabled, not "Off"',
    'rules[2]: must be an object, not 7',
    'rules[2]: must set mode or authentication',
    'sessionCache.enabled: must be true or false, not 1',
    'sessionCache.maxEntries: must be a whole number from 0 to 1000000, not -1',
    'sessionCache.lifetime: must be a duration such as 1h or 1h30m, more than 0s and at most 168h (enabled: false turns the cache off), not "0s"',
    'algorithms: must be an object, not []',
    'and 4 more',
  ]);
});

test('version skew: unknown fields and algorithms are ignored and reported', () => {
  const { document, warnings } = parsePolicy(`
podSelector: {}
rules: [{mode: Strict, color: red, "a b": 1}]
algorithms: {keyExchanges: [X448MLKEM1024, X25519, X25519], suites: [AES-128-CTR-GMAC]}
`);
  assert.deepEqual(document.algorithms, { keyExchanges: [0x202], suites: [0x600] });
  assert.deepEqual(warnings, [
    'podSelector: unknown field, ignored',
    'rules[0].color: unknown field, ignored',
    'rules[0]["a b"]: unknown field, ignored',
    'algorithms.keyExchanges[0]: unknown algorithm "X448MLKEM1024", ignored',
  ]);
});

test('a list of algorithms of which none is left is an error', () => {
  assert.match(
    problemsOf('algorithms: {suites: [ROT13]}'),
    /^algorithms\.suites: names no known algorithm; known/,
  );
  assert.match(
    problemsOf('algorithms: {keyExchanges: []}'),
    /^algorithms\.keyExchanges: names no known algorithm/,
  );
  assert.match(
    problemsOf('algorithms: {keyExchanges: X25519}'),
    /^algorithms\.keyExchanges: must be a list, not "X2/,
  );
  assert.match(
    problemsOf('algorithms: {keyExchanges: [1]}'),
    /^algorithms\.keyExchanges\[0\]: must be a name, not 1$/,
  );
});

test('an empty file, a whole resource, a list and broken YAML are refused', () => {
  for (const text of ['', '# nothing\n', '---\n']) assert.match(problemsOf(text), /^policy: is empty/);
  assert.match(
    problemsOf('{apiVersion: tcpcrypt.io/v1alpha1, kind: TcpcryptPolicy, spec: {}}'),
    /whole resource/,
  );
  assert.match(problemsOf('[]'), /^policy: must be an object/);
  assert.match(problemsOf('mode: [\n'), /not YAML or JSON: line 2, column 1/);
  assert.match(problemsOf('mode: Strict\nmode: Audit\n'), /line 2, column 1: Map keys must be unique/);
  assert.match(problemsOf('mode: Strict\n---\nmode: Audit\n'), /not YAML or JSON/);
});

test('hostile text is bounded', () => {
  assert.match(problemsOf(`# ${'x'.repeat(1 << 20)}`), /larger than/);
  assert.match(problemsOf('['.repeat(20_000)), /not YAML or JSON/);
  const laughs = Array.from(
    { length: 12 },
    (_, i) => `a${i}: &a${i} [x, ${`*a${i - 1},`.repeat(i === 0 ? 0 : 9)}]`,
  );
  assert.match(problemsOf(laughs.join('\n')), /alias/);
  assert.match(
    problemsOf(JSON.stringify({ rules: new Array(257).fill({ mode: 'Strict' }) })),
    /257 entries; 256/,
  );
  assert.ok('document' in checkPolicy(JSON.parse('{"__proto__": {"mode": "Strict"}}')));
  assert.equal(parsePolicy('{"__proto__": {"mode": "Strict"}}').document.mode, 'Opportunistic');
});

test('re-keying by time alone can be off; bytes cannot', () => {
  assert.equal(parsePolicy('rekey: {after: 0s}').document.rekey.afterMs, Number.POSITIVE_INFINITY);
  assert.match(
    problemsOf('rekey: {afterBytes: 0}'),
    /^rekey\.afterBytes: must be a number of bytes from 64Ki to 64Gi/,
  );
  assert.equal(parsePolicy('rekey: {afterBytes: 64Gi}').document.rekey.afterBytes, 2 ** 36);
});

test('property: any value is either a document or has problems; nothing throws', () => {
  const keys = fc.constantFrom(
    'mode',
    'rules',
    'ports',
    'port',
    'endPort',
    'peers',
    'cidr',
    'except',
    'sessionCache',
    'enabled',
    'lifetime',
    'algorithms',
    'suites',
    'keyExchanges',
    'rekey',
    'after',
    'afterBytes',
    'pathChecks',
    'server',
    'rstCheck',
    'x',
  );
  const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
    tree: fc.oneof(
      { maxDepth: 5 },
      fc.constantFrom<unknown>(
        null,
        true,
        0,
        7,
        -1,
        1e300,
        NaN,
        '',
        'Strict',
        '10.0.0.0/8',
        '1h',
        '1Gi',
        'X25519',
      ),
      fc.array(tie('tree'), { maxLength: 3 }),
      fc.dictionary(keys, tie('tree'), { maxKeys: 5 }),
    ),
  }));
  fc.assert(
    fc.property(tree, (value) => {
      const checked = checkPolicy(value);
      if ('problems' in checked) assert.ok(checked.problems.length > 0);
      else assert.ok(checked.document.algorithms.suites.length > 0);
    }),
    { numRuns: 300 },
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
      try {
        parsePolicy(text);
      } catch (error) {
        assert.ok(error instanceof TcpcryptError);
      }
    }),
  );
});

test('the example of docs/policy.md is valid as it stands', () => {
  const docs = readFileSync(new URL('../docs/policy.md', import.meta.url), 'utf8');
  const examples = [...docs.matchAll(/```yaml\n(.*?)```/gs)].map((match) => match[1]);
  assert.ok(examples.length > 0);
  for (const example of examples) assert.deepEqual(parsePolicy(example).warnings, []);
});
