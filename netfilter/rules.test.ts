import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from './cidr.ts';
import { describeDifference, findDifferences } from './differences.ts';
import { ownRules, parseSave, replaceText } from './iptables.ts';
import { buildRules, CHAIN_PREFIX, queueRanges, type RuleOptions } from './rules.ts';
import { judge } from './surroundings.ts';
import { conntrackNearFull } from './sysctls.ts';

const range = (first: number, count: number) => ({ first, count });
const options: RuleOptions = {
  setupQueues: range(10, 1),
  dataQueues: range(20, 1),
  superSegmentQueues: range(30, 1),
  strict: false,
  dataWhenNoState: true,
};
const three = { setupQueues: range(10, 3), dataQueues: range(20, 3), superSegmentQueues: range(30, 3) };

function rulesOf(chain: string, changes: Partial<RuleOptions> = {}, family: 4 | 6 = 4): readonly string[] {
  const found = buildRules(family, { ...options, ...changes }).flatMap(({ chains }) => chains);
  return found.find(({ name }) => name === chain)?.rules ?? [];
}

test('every chain is ours, is there, and is reached', () => {
  for (const family of [4, 6] as const) {
    for (const { chains, jumps } of buildRules(family, { ...options, ...three, untrackOthers: true })) {
      const names = chains.map(({ name }) => name);
      const targets = chains.flatMap(({ rules }) =>
        rules.map((rule) => / -?-?[gj] (TCPCRYPT_\S+)$/.exec(` ${rule}`)?.[1]),
      );
      const reached = new Set([
        ...jumps.map(({ to }) => to),
        ...targets.filter((name) => name !== undefined),
      ]);
      assert.deepEqual([...reached].sort(), [...names].sort());
      assert.ok(names.every((name) => name.startsWith(CHAIN_PREFIX) && name.length < 29));
    }
  }
});

test('no rule about an encrypted connection has a bypass', () => {
  for (const strict of [true, false]) {
    for (const chain of ['TCPCRYPT_STATE', 'TCPCRYPT_NEW', 'TCPCRYPT_OPTION']) {
      assert.ok(!rulesOf(chain, { ...three, strict }).some((rule) => rule.includes('bypass')), chain);
    }
  }
});

test('what a plain connection is made of goes by first, but for our marks and our options', () => {
  const [, , before] = rulesOf('TCPCRYPT_OUT');
  const rule =
    '-p tcp -m mark --mark 0x0/0x7f000000 -m connmark --mark 0x2000000/0xe000000 -m tcp ! --tcp-option 253 -j RETURN';
  assert.deepEqual(
    [rulesOf('TCPCRYPT_IN')[0], ...rulesOf('TCPCRYPT_OUT').slice(0, 2)],
    [rule, '-o lo -j RETURN', rule],
  );
  assert.match(before!, /TCPCRYPT_OURS/);
  const legacy = rulesOf('TCPCRYPT_IN', { optionKinds: [253, 69, 70] })[0]!;
  assert.match(
    legacy,
    / -m tcp ! --tcp-option 253 -m tcp ! --tcp-option 69 -m tcp ! --tcp-option 70 -j RETURN$/,
  );
});

test('strict: no SYN is bypassed, none is asked beforehand', () => {
  for (const queues of [{}, three]) {
    const chains = ['TCPCRYPT_SETUP', 'TCPCRYPT_ASKED'];
    const rules = chains.flatMap((chain) => rulesOf(chain, { ...queues, strict: true }));
    assert.ok(!rules.some((rule) => /bypass|xmark 0xa000000/.test(rule)));
    const open = chains.flatMap((chain) => rulesOf(chain, queues));
    assert.ok(
      open.filter((rule) => rule.includes('NFQUEUE')).every((rule) => rule.endsWith(' --queue-bypass')),
    );
    assert.ok(open.some((rule) => rule.includes('CONNMARK --set-xmark 0xa000000/0xe000000')));
  }
});

test('workers: by the connmark once one was asked, the last taking what is left; else by address', () => {
  assert.deepEqual(rulesOf('TCPCRYPT_STATE', three).slice(0, 3), [
    '-m connmark --mark 0x6000000/0x7e000000 -j NFQUEUE --queue-num 30',
    '-m connmark --mark 0x16000000/0x7e000000 -j NFQUEUE --queue-num 31',
    '-m connmark --mark 0x6000000/0xe000000 -j NFQUEUE --queue-num 32',
  ]);
  assert.deepEqual(rulesOf('TCPCRYPT_SETUP', three), [
    '-j CONNMARK --set-xmark 0xa000000/0xe000000',
    '-j NFQUEUE --queue-balance 10:12 --queue-bypass',
  ]);
  assert.deepEqual(rulesOf('TCPCRYPT_AGAIN', three), [
    '-j MARK --set-xmark 0xc000000/0x7e000000',
    '-g TCPCRYPT_SETUP',
  ]);
  assert.deepEqual(rulesOf('TCPCRYPT_ASKED', three), [
    '-j MARK --set-xmark 0xe000000/0x7e000000',
    '-j NFQUEUE --queue-balance 20:22 --queue-bypass',
  ]);
  assert.equal(rulesOf('TCPCRYPT_NEW', three).at(-1), '-j NFQUEUE --queue-balance 20:22');
});

test("queue ranges: three in a row, as the command line's --first-queue and --workers say", () => {
  assert.deepEqual(queueRanges(5440, 2), {
    setupQueues: range(5440, 2),
    dataQueues: range(5442, 2),
    superSegmentQueues: range(5444, 2),
  });
});

test('excluded ports go fifteen to a rule, a range counting for two', () => {
  const excludePorts = Array.from({ length: 9 }, (_, i) => ({
    port: 100 * (i + 1),
    endPort: 100 * (i + 1) + 1,
  }));
  const rules = rulesOf('TCPCRYPT_NEW', { excludePorts }).filter((rule) => rule.includes('--dports'));
  const lists = rules.map((rule) => / --dports (\S+)/.exec(rule)![1]!.split(','));
  assert.deepEqual(
    lists.map((list) => list.length),
    [7, 2],
  );
  assert.deepEqual(lists[1], ['800:801', '900:901']);
});

test('excluded ranges go to their family, in canonical form', () => {
  const excludeCidrs = ['10.1.2.3/8', 'FD00:0::1:5/112', '192.0.2.1'];
  assert.deepEqual(rulesOf('TCPCRYPT_NEW_IN', { excludeCidrs }).slice(0, -1), [
    '-s 10.0.0.0/8 -j RETURN',
    '-s 192.0.2.1/32 -j RETURN',
  ]);
  assert.deepEqual(rulesOf('TCPCRYPT_NEW_OUT', { excludeCidrs }, 6).slice(0, -1), [
    '-d fd00::1:0/112 -j RETURN',
  ]);
  assert.equal(parseCidr('::/0').text, '::/0');
  assert.equal(parseCidr('::ffff:1.2.3.4').text, '::ffff:102:304/128');
  for (const wrong of [
    '',
    '10.0.0.0/33',
    '10.0.0/8',
    '::/129',
    'x/8',
    '10.0.0.0/8/8',
    '10.0.0.0/',
    'fe80::1%eth0/64',
    '1.2.3.4/-1',
  ]) {
    assert.throws(() => parseCidr(wrong), { code: 'ERR_TCPCRYPT_USAGE' }, wrong);
  }
});

test('options that cannot work are refused', () => {
  const wrong: Partial<RuleOptions>[] = [
    { dataQueues: range(20, 2) },
    { dataQueues: range(10, 1) },
    { dataQueues: range(65536, 1) },
    { setupQueues: range(1, 9), dataQueues: range(11, 9), superSegmentQueues: range(21, 9) },
    { excludePorts: [{ port: 0 }] },
    { excludePorts: [{ port: 9, endPort: 8 }] },
    { optionKinds: [1] },
    { excludeCidrs: ['10.0.0.0/8; rm'] },
    { mask: 0x0e000000 },
  ];
  for (const changes of wrong) {
    assert.throws(() => buildRules(4, { ...options, ...changes }), { code: 'ERR_TCPCRYPT_USAGE' });
  }
});

/** A save's text that holds the rules, as iptables would print it. */
function saved(changes: Partial<RuleOptions> = {}, edit = (text: string) => text) {
  const builtin = { raw: ['PREROUTING', 'OUTPUT'], mangle: ['PREROUTING', 'POSTROUTING', 'FORWARD'] };
  const text = buildRules(4, { ...options, ...changes }).map(({ table, chains, jumps }) =>
    [
      `*${table}`,
      ...builtin[table].map((name) => `:${name} ACCEPT [1:2]`),
      ...chains.map(({ name }) => `:${name} - [0:0]`),
      ...jumps.map(({ from, to }) => `-A ${from} -j ${to}`),
      ...chains.flatMap(({ name, rules }) => rules.map((rule) => `-A ${name} ${rule}`)),
      'COMMIT',
    ].join('\n'),
  );
  return parseSave(edit(`# Generated\n${text.join('\n')}\n`));
}

test('differences name each rule, and nothing else', () => {
  const wanted = buildRules(4, options);
  const found = (edit: (text: string) => string): string[] =>
    findDifferences(4, saved({}, edit), wanted).map(describeDifference);
  assert.deepEqual(
    found((text) => text),
    [],
  );
  assert.deepEqual(
    found((text) => text.replace('-A TCPCRYPT_OUT -o lo -j RETURN\n', '')),
    ['IPv4 mangle: missing: -A TCPCRYPT_OUT -o lo -j RETURN'],
  );
  assert.deepEqual(
    found((text) => text.replace('-A TCPCRYPT_OUT -o', '-A TCPCRYPT_OUT -j ACCEPT\n-A TCPCRYPT_OUT -o')),
    ['IPv4 mangle: unexpected: -A TCPCRYPT_OUT -j ACCEPT'],
  );
  assert.deepEqual(
    found((text) =>
      text.replace('-A PREROUTING -j TCPCRYPT_IN', '-A PREROUTING -j X\n-A PREROUTING -j TCPCRYPT_IN'),
    ),
    ['IPv4 mangle: in the wrong place: -A PREROUTING -j TCPCRYPT_IN'],
  );
  assert.deepEqual(
    found((text) => text.replace('-A POSTROUTING -j TCPCRYPT_OUT\n', '')),
    ['IPv4 mangle: missing: -A POSTROUTING -j TCPCRYPT_OUT'],
  );
  assert.deepEqual(
    found((text) => text.replace(':FORWARD', ':TCPCRYPT_OLD - [0:0]\n:FORWARD')),
    ['IPv4 mangle: unexpected: chain TCPCRYPT_OLD'],
  );
  assert.deepEqual(findDifferences(4, [], wanted).filter(({ rule }) => rule === '').length, 14);
  const swapped = found((text) => text.replace(/(-A TCPCRYPT_OURS .*\n)(-A TCPCRYPT_OURS .*\n)/, '$2$1'));
  assert.equal(swapped.length, 1);
  assert.match(swapped[0]!, /in the wrong place: -A TCPCRYPT_OURS/);
});

test('replacing takes out old jumps and chains, and only ours', () => {
  const found = ownRules(
    saved({}, (text) =>
      text
        .replace(':FORWARD', ':TCPCRYPT_OLD - [0:0]\n:FORWARD')
        .replace('COMMIT', '-A OUTPUT -j OTHER\nCOMMIT'),
    ),
  );
  const text = replaceText(found, buildRules(4, options));
  assert.match(text, /-D PREROUTING -j TCPCRYPT_IN\n/);
  assert.match(text, /-F TCPCRYPT_OLD\n[\s\S]*-X TCPCRYPT_OLD\n/);
  assert.ok(!text.includes('OTHER'));
  assert.equal(replaceText(ownRules([]), []), '');
});

test('surroundings', () => {
  const judged = (text: string) => judge(parseSave(text));
  const nat = (rest: string): string =>
    `*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n${rest}\nCOMMIT\n`;
  assert.deepEqual(judged(nat('')), { hasNat: false, otherMesh: undefined, mayUntrack: true });
  assert.equal(judged(nat('-A OUTPUT -p tcp -j REDIRECT')).hasNat, true);
  assert.equal(judged(nat(':ISTIO_OUTPUT - [0:0]')).otherMesh, 'istio');
  assert.equal(judged(nat(':PROXY_INIT_OUTPUT - [0:0]')).otherMesh, 'linkerd');
  assert.equal(
    judged('*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m conntrack --ctstate RELATED -j ACCEPT\n').mayUntrack,
    false,
  );
  assert.equal(judge(saved({ untrackOthers: true })).mayUntrack, true);
});

test('conntrack near full', () => {
  assert.equal(conntrackNearFull({ count: 90, max: 100 }), true);
  assert.equal(conntrackNearFull({ count: 89, max: 100 }), false);
  assert.equal(conntrackNearFull({ count: 5, max: 0 }), false);
  assert.equal(conntrackNearFull(undefined), false);
});
