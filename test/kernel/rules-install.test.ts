/** Putting the rules in, checking them and taking them out, in both variants of iptables. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeDifference } from '../../netfilter/differences.ts';
import { assertSame, install, probe, remove, verify } from '../../netfilter/namespace.ts';
import type { RuleOptions } from '../../netfilter/rules.ts';
import { type Host, Lab, requireRoot } from './support/namespaces.ts';
import { matched, options } from './support/rules-lab.ts';

const range = (first: number, count: number) => ({ first, count });
/** Every rule that there can be. */
const all: RuleOptions = {
  setupQueues: range(10, 8),
  dataQueues: range(20, 8),
  superSegmentQueues: range(30, 8),
  strict: false,
  dataWhenNoState: true,
  optionKinds: [253, 69, 70],
  excludePorts: Array.from({ length: 20 }, (_, i) => ({
    port: 1000 + 10 * i,
    endPort: 1000 + 10 * i + (i % 3),
  })),
  excludeCidrs: ['10.0.0.0/8', '192.0.2.7', 'fd00::/8', '2001:db8::1'],
  untrackOthers: true,
};

/** All rules of both families and variants, without counters, time stamps and tables in which there is nothing. */
function everything(host: Host): string {
  const tables = ['iptables-nft', 'ip6tables-nft', 'iptables-legacy', 'ip6tables-legacy'].flatMap(
    (command) => {
      const { stdout } = host.run(`${command}-save`);
      const lines = stdout.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
      const text = lines.map((line) => line.replace(/ \[\d+:\d+\]$/, '')).join('\n');
      return text
        .split('COMMIT')
        .filter((table) => /^-A|^:\S+ (-|DROP)/m.test(table))
        .map((table) => `${command} ${table.trim()}`);
    },
  );
  return tables.join('\n');
}

test('the kernel offers what the rules need', async (t) => {
  if (!requireRoot(t)) return;
  const able = await probe();
  assert.ok(able.variant !== undefined && able.nfqueue && able.connmark, able.reasons.join('\n'));
  assert.equal(await probe(), able);
});

for (const variant of ['nft', 'legacy'] as const) {
  test(`${variant}: install, verify, remove: no trace, and what others have stays`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new Lab();
    const host = lab.host('a');
    const where = { netns: host.nsPath, variant };
    for (const other of ['iptables-nft', 'ip6tables-nft', 'iptables-legacy']) {
      host.run(other, ['-t', 'mangle', '-N', 'OTHERS']);
      host.run(other, ['-t', 'mangle', '-A', 'PREROUTING', '-j', 'OTHERS']);
      host.run(other, ['-t', 'mangle', '-A', 'OTHERS', '-p', 'tcp', '-j', 'MARK', '--set-xmark', '0x1/0x1']);
    }
    const before = everything(host);
    for (const wanted of [
      options,
      all,
      { ...all, strict: true, dataWhenNoState: false, untrackOthers: false },
    ]) {
      await install(wanted, where);
      assert.deepEqual((await verify(wanted, where)).map(describeDifference), []);
      for (const family of ['', '6']) {
        const [first] = host
          .run(`ip${family}tables-${variant}`, ['-t', 'mangle', '-S', 'PREROUTING'])
          .stdout.split('\n')
          .slice(1);
        assert.equal(first, '-A PREROUTING -j TCPCRYPT_IN');
      }
    }
    await remove(where);
    assert.equal(everything(host), before);
    await remove(where);
    assert.equal(everything(host), before);
  });

  test(`${variant}: installing again changes nothing, counters included`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new Lab();
    const [a, b] = [lab.host('a'), lab.host('b')];
    lab.link(a, b);
    const where = { netns: a.nsPath, variant };
    await install(options, where);
    const packet = `const s = require('node:dgram').createSocket('udp4'); s.send('x', 9, process.argv[1], () => s.close())`;
    b.run(process.execPath, ['-e', packet, a.address4()]);
    const count = (): number => matched(a, /-A PREROUTING -j TCPCRYPT_IN/, variant);
    const before = count();
    assert.notEqual(before, 0);
    await install(options, where);
    assert.ok(count() >= before);
  });

  test(`${variant}: verify names each rule that differs, and install mends it`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new Lab();
    const host = lab.host('a');
    const where = { netns: host.nsPath, variant };
    await install(options, where);
    const mangle = (...args: string[]) => host.run(`iptables-${variant}`, ['-t', 'mangle', ...args]);
    const found = async (): Promise<string[]> => (await verify(options, where)).map(describeDifference);
    mangle('-D', 'TCPCRYPT_OUT', '1');
    assert.deepEqual(await found(), ['IPv4 mangle: missing: -A TCPCRYPT_OUT -o lo -j RETURN']);
    mangle('-I', 'PREROUTING', '1', '-p', 'udp', '-j', 'ACCEPT');
    mangle('-A', 'TCPCRYPT_IN', '-j', 'ACCEPT');
    mangle('-N', 'TCPCRYPT_OLD');
    mangle('-A', 'FORWARD', '-j', 'TCPCRYPT_OLD');
    assert.deepEqual((await found()).sort(), [
      'IPv4 mangle: in the wrong place: -A PREROUTING -j TCPCRYPT_IN',
      'IPv4 mangle: missing: -A TCPCRYPT_OUT -o lo -j RETURN',
      'IPv4 mangle: unexpected: -A FORWARD -j TCPCRYPT_OLD',
      'IPv4 mangle: unexpected: -A TCPCRYPT_IN -j ACCEPT',
      'IPv4 mangle: unexpected: chain TCPCRYPT_OLD',
    ]);
    const differences = await verify(options, where);
    assert.throws(() => assertSame(differences), {
      code: 'ERR_TCPCRYPT_RULES_DIFFER',
      message: /FORWARD -j TCPCRYPT_OLD/,
    });
    await install(options, where);
    assert.deepEqual(await found(), []);
    assert.match(mangle('-S', 'PREROUTING').stdout, /-A PREROUTING -p udp -j ACCEPT/);
    assert.ok((await verify(all, where)).length > 20);
  });

  test(`${variant}: an install that fails leaves what was there, in every table and family`, async (t) => {
    if (!requireRoot(t)) return;
    using lab = new Lab();
    const host = lab.host('a');
    const where = { netns: host.nsPath, variant };
    await install(options, where);
    // A chain by our name that somebody else refers to: it cannot be removed.
    for (const args of [
      ['-N', 'TCPCRYPT_OLD'],
      ['-A', 'FORWARD', '-p', 'udp', '-j', 'TCPCRYPT_OLD'],
    ]) {
      host.run(`ip6tables-${variant}`, ['-t', 'mangle', ...args]);
    }
    const before = everything(host);
    await assert.rejects(install(all, where), {
      code: 'ERR_TCPCRYPT_RULES_INSTALL',
      message: /TCPCRYPT_OLD|line \d+/,
    });
    assert.equal(everything(host), before);
    await assert.rejects(remove(where), { code: 'ERR_TCPCRYPT_RULES_REMOVE' });
  });
}

test('rules of ours of the other variant are taken out at installing', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new Lab();
  const host = lab.host('a');
  await install(options, { netns: host.nsPath, variant: 'legacy' });
  await install(options, { netns: host.nsPath, variant: 'nft' });
  assert.ok(!host.run('iptables-legacy-save').stdout.includes('TCPCRYPT'));
  assert.deepEqual(await verify(options, { netns: host.nsPath, variant: 'nft' }), []);
});

test('nft: the built-in chains leave their hooks with us; reading makes no legacy tables', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new Lab();
  const host = lab.host('a');
  const where = { netns: host.nsPath, variant: 'nft' } as const;
  await install(all, where);
  await remove(where);
  for (const table of ['raw', 'mangle']) {
    const gone = host.run('iptables-nft', ['-t', table, '-X', 'PREROUTING'], { allowFailure: true });
    assert.match(gone.stderr, /No chain/, table);
  }
  assert.equal(host.run('cat', ['/proc/net/ip_tables_names', '/proc/net/ip6_tables_names']).stdout, '');
});

test('without the privilege: ERR_TCPCRYPT_NOT_ROOT', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new Lab();
  const source = `
    const { install } = await import(${JSON.stringify(import.meta.resolve('../../netfilter/namespace.ts'))});
    await install(${JSON.stringify(options)}).catch((error) => console.log(error.code));`;
  const args = [
    '--bounding-set=-net_admin,-sys_admin',
    '--inh-caps=-all',
    process.execPath,
    '--input-type=module',
    '-e',
    source,
  ];
  assert.equal(lab.host('a').run('setpriv', args).stdout.trim(), 'ERR_TCPCRYPT_NOT_ROOT');
});

test('without SYS_ADMIN, as in a pod: the rules go into the namespace that it is in', async (t) => {
  if (!requireRoot(t)) return;
  using lab = new Lab();
  const host = lab.host('a');
  const source = `
    const { install, remove, verify } = await import(${JSON.stringify(import.meta.resolve('../../netfilter/namespace.ts'))});
    const options = ${JSON.stringify(options)};
    await install(options);
    console.log((await verify(options)).length);
    if (process.argv[1]) await remove();`;
  const drop = [
    '--bounding-set=-sys_admin',
    '--inh-caps=-all',
    process.execPath,
    '--input-type=module',
    '-e',
    source,
  ];
  assert.equal(host.run('setpriv', drop).stdout.trim(), '0');
  assert.match(host.run('iptables-nft-save').stdout, /TCPCRYPT_IN/);
  assert.equal(host.run('setpriv', [...drop, 'remove']).stdout.trim(), '0');
  assert.equal(everything(host), '');
});
