/** The installer in real folders, with a runtime's habits and a primary plugin's played by the tests. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../../../observability/log.ts';
import { temporaryFolder } from '../../executable/testing.ts';
import { type Entry, PLUGIN_TYPE } from './conflist.ts';
import { Installer, type InstallerOptions } from './installer.ts';

const entry: Entry = {
  type: PLUGIN_TYPE,
  agentSocket: '/run/tcpcrypt-node/agent.sock',
  agentUnavailable: 'Skip',
  exemptNamespaces: ['kube-system'],
};
const silent = () => {};
const log = { info: silent, warn: silent, error: silent, debug: silent } as unknown as Logger;
const conflist = (name: string, ...types: string[]): string =>
  JSON.stringify({ cniVersion: '1.0.0', name, plugins: types.map((type) => ({ type })) }, null, 2);

class Node implements Disposable {
  readonly #folder = temporaryFolder();
  readonly conf = join(this.#folder.path, 'net.d');
  readonly bin = join(this.#folder.path, 'bin');
  readonly executable = join(this.#folder.path, 'tcpcrypt-node');
  readonly installer: Installer;

  constructor(options: Partial<InstallerOptions> = {}) {
    writeFileSync(this.executable, 'the executable');
    mkdirSync(this.conf);
    const settings = { confDir: this.conf, binDir: this.bin, executable: this.executable };
    this.installer = new Installer({ ...settings, entry, log, lookAgainMs: 1000, settleMs: 10, ...options });
  }

  write(name: string, text: string): void {
    writeFileSync(join(this.conf, name), text);
  }

  /** As a primary plugin does it. */
  replace(name: string, text: string): void {
    this.write(`${name}.new`, text);
    renameSync(join(this.conf, `${name}.new`), join(this.conf, name));
  }

  types(name: string): string[] {
    const { plugins } = JSON.parse(readFileSync(join(this.conf, name), 'utf8'));
    return plugins.map(({ type }: { type: string }) => type);
  }

  async until(what: string, condition: () => boolean): Promise<void> {
    for (let tries = 0; ; tries++) {
      try {
        if (condition()) return;
      } catch {
        // A file in the middle of being replaced.
      }
      assert.ok(tries < 1000, `never: ${what}; ${this.installer.status.reason}`);
      await sleep(10);
    }
  }

  [Symbol.dispose](): void {
    this.installer.stop();
    this.#folder[Symbol.dispose]();
  }
}

describe('installing', () => {
  test('the executable, then our entry, last; mode and owner of the file stay', () => {
    using node = new Node();
    node.write('10-flannel.conflist', conflist('cbr0', 'flannel', 'portmap'));
    chmodSync(join(node.conf, '10-flannel.conflist'), 0o640);
    chownSync(join(node.conf, '10-flannel.conflist'), 1234, 1235);
    node.installer.start();
    assert.deepEqual(node.types('10-flannel.conflist'), ['flannel', 'portmap', 'tcpcrypt']);
    const { mode, uid, gid } = statSync(join(node.conf, '10-flannel.conflist'));
    assert.deepEqual([mode & 0o777, uid, gid], [0o640, 1234, 1235]);
    assert.equal(readFileSync(join(node.bin, 'tcpcrypt'), 'utf8'), 'the executable');
    assert.equal(statSync(join(node.bin, 'tcpcrypt')).mode & 0o777, 0o755);
    assert.deepEqual(readdirSync(node.conf), ['10-flannel.conflist'], 'nothing else is left there');
    assert.equal(node.installer.status.chained, true);
  });

  test('what is there already is not written again', async () => {
    using node = new Node();
    node.write('10-a.conflist', conflist('a', 'ptp'));
    node.installer.start();
    const before = [statSync(join(node.conf, '10-a.conflist')).ino, statSync(join(node.bin, 'tcpcrypt')).ino];
    await sleep(1200);
    const after = [statSync(join(node.conf, '10-a.conflist')).ino, statSync(join(node.bin, 'tcpcrypt')).ino];
    assert.deepEqual(after, before);
  });

  test('several lists each get it; plain files and strange ones stay as they are', () => {
    using node = new Node();
    const plain = '{"cniVersion":"1.0.0","name":"lo","type":"loopback"}';
    const strange = conflist('new', 'ptp').replace('1.0.0', '9.0.0');
    for (const [name, text] of [
      ['10-a.conflist', conflist('a', 'ptp')],
      ['20-b.conflist', conflist('b', 'bridge')],
      ['30-strange.conflist', strange],
      ['40-broken.conflist', '{'],
      ['99-loopback.conf', plain],
      ['notes.txt', 'x'],
    ] as const) {
      node.write(name, text);
    }
    symlinkSync('notes.txt', join(node.conf, '50-link.conflist'));
    node.installer.start();
    assert.deepEqual(node.types('20-b.conflist'), ['bridge', 'tcpcrypt']);
    for (const [name, text] of [
      ['30-strange.conflist', strange],
      ['40-broken.conflist', '{'],
      ['99-loopback.conf', plain],
      ['notes.txt', 'x'],
    ] as const) {
      assert.equal(readFileSync(join(node.conf, name), 'utf8'), text);
    }
    assert.deepEqual(Object.fromEntries(node.installer.status.files), {
      '10-a.conflist': 'installed',
      '20-b.conflist': 'installed',
      '30-strange.conflist': 'left_alone',
      '40-broken.conflist': 'left_alone',
      '50-link.conflist': 'left_alone',
    });
  });

  test('where a plain file comes first there is no chaining, and it says so', () => {
    using node = new Node();
    node.write('05-bridge.conf', '{"cniVersion":"1.0.0","name":"b","type":"bridge"}');
    node.write('10-a.conflist', conflist('a', 'ptp'));
    node.installer.start();
    assert.equal(node.installer.status.chained, false);
    assert.match(node.installer.status.reason, /05-bridge\.conf is no list/);
  });

  test('without the executable no entry: it would keep every pod from starting', () => {
    using node = new Node();
    rmSync(node.executable);
    node.write('10-a.conflist', conflist('a', 'ptp'));
    node.installer.start();
    assert.deepEqual(node.types('10-a.conflist'), ['ptp']);
    assert.match(node.installer.status.reason, /ENOENT/);
  });
});

describe('keeping', () => {
  test('the primary plugin comes late, its folder too', async () => {
    using node = new Node({ lookAgainMs: 50 });
    rmSync(node.conf, { recursive: true });
    node.installer.start();
    assert.match(node.installer.status.reason, /no network configuration/);
    mkdirSync(node.conf);
    node.write('10-a.conflist', '{"cniVersion":');
    await node.until('seen half-written', () => node.installer.status.files.has('10-a.conflist'));
    node.write('10-a.conflist', conflist('a', 'ptp'));
    await node.until('installed', () => node.types('10-a.conflist').includes('tcpcrypt'));
    await node.until('chained', () => node.installer.status.chained);
  });

  test('its file is rewritten, replaced, removed and made anew; another comes before it', async () => {
    using node = new Node({ lookAgainMs: 60_000 });
    node.write('10-a.conflist', conflist('a', 'ptp'));
    node.installer.start();
    const back = (name: string) => node.until(name, () => node.types(name).at(-1) === 'tcpcrypt');
    node.write('10-a.conflist', conflist('a', 'ptp', 'portmap'));
    await back('10-a.conflist');
    assert.deepEqual(node.types('10-a.conflist'), ['ptp', 'portmap', 'tcpcrypt']);
    node.replace('10-a.conflist', conflist('a', 'bridge'));
    await back('10-a.conflist');
    rmSync(join(node.conf, '10-a.conflist'));
    await node.until('gone', () => !node.installer.status.chained);
    node.replace('10-a.conflist', conflist('a', 'bridge'));
    await back('10-a.conflist');
    node.replace('05-cilium.conflist', conflist('cilium', 'cilium-cni'));
    await back('05-cilium.conflist');
    await node.until('three losses', () => node.installer.status.losses === 3);
  });

  test('the executable is put back', async () => {
    using node = new Node({ lookAgainMs: 50 });
    node.write('10-a.conflist', conflist('a', 'ptp'));
    node.installer.start();
    writeFileSync(join(node.bin, 'tcpcrypt'), 'older');
    await node.until('renewed', () => readFileSync(join(node.bin, 'tcpcrypt'), 'utf8') === 'the executable');
    rmSync(join(node.bin, 'tcpcrypt'));
    await node.until('back', () => existsSync(join(node.bin, 'tcpcrypt')));
  });

  test('thrown out again and again: it stops, and says so', async () => {
    using node = new Node({ lookAgainMs: 60_000, losses: { most: 3, withinMs: 60_000 } });
    const cilium = conflist('cilium', 'cilium-cni');
    node.write('05-cilium.conflist', cilium);
    node.installer.start();
    // As Cilium's agent does: whatever differs from its own is written over.
    let writes = 0;
    for (let quiet = 0; quiet < 30; quiet++) {
      await sleep(10);
      if (readFileSync(join(node.conf, '05-cilium.conflist'), 'utf8') === cilium) continue;
      node.replace('05-cilium.conflist', cilium);
      writes++;
      quiet = 0;
      assert.ok(writes < 20, 'it never stops');
    }
    assert.equal(writes, 4);
    assert.equal(node.installer.status.chained, false);
    assert.equal(node.installer.status.files.get('05-cilium.conflist'), 'given_up');
    assert.match(node.installer.status.reason, /thrown out 4 times/);
    // Others are not concerned.
    node.write('10-a.conflist', conflist('a', 'ptp'));
    await node.until('the other', () => node.types('10-a.conflist').at(-1) === 'tcpcrypt');
  });
});

describe('the end', () => {
  test('stop leaves everything', async () => {
    using node = new Node({ lookAgainMs: 20 });
    node.write('10-a.conflist', conflist('a', 'ptp'));
    node.installer.start();
    node.installer.stop();
    assert.deepEqual(node.types('10-a.conflist'), ['ptp', 'tcpcrypt']);
    node.replace('10-a.conflist', conflist('a', 'ptp'));
    await sleep(100);
    assert.deepEqual(node.types('10-a.conflist'), ['ptp']);
  });

  test('uninstall: our entries, then the executable; what others added stays', async () => {
    using node = new Node();
    const text = conflist('a', 'ptp');
    node.write('10-a.conflist', text);
    node.installer.start();
    const list = JSON.parse(readFileSync(join(node.conf, '10-a.conflist'), 'utf8'));
    list.plugins.push({ type: 'istio-cni' });
    node.write('10-a.conflist', JSON.stringify(list));
    await node.installer.uninstall();
    assert.deepEqual(node.types('10-a.conflist'), ['ptp', 'istio-cni']);
    assert.deepEqual(readdirSync(node.bin), []);
  });

  test('uninstall: the executable stays as long as a configuration names it', async () => {
    using node = new Node();
    node.write('10-a.conflist', conflist('a', 'ptp'));
    node.write('20-own.conflist', conflist('own', 'tcpcrypt'));
    node.installer.start();
    await node.installer.uninstall();
    assert.deepEqual(node.types('10-a.conflist'), ['ptp']);
    assert.deepEqual(readdirSync(node.bin), ['tcpcrypt']);
  });
});
