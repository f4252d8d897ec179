/** PostgreSQL, Redis and OpenSSH over tcpcrypt. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from './support/files.ts';
import type { Host } from './support/namespaces.ts';
import { assertAllEncrypted, secretly, withPair } from './support/pair.ts';
import { ended, eventually } from './support/processes.ts';

const DUMP_MEGABYTES = 100;

test(
  `PostgreSQL: a dump of ${DUMP_MEGABYTES} MB with pg_dump, taken back in with psql, is the same`,
  { timeout: 400_000 },
  (t) =>
    withPair(t, async (pair) => {
      using folder = temporaryFolder();
      const { postgres, asPostgres } = await startPostgres(pair.server, folder.path);
      const server = ['-h', pair.address, '-U', 'postgres'];
      const psql = (host: Host, ...args: string[]) =>
        host.run('psql', ['-X', '-q', '-v', 'ON_ERROR_STOP=1', ...args]).stdout;
      const rows = DUMP_MEGABYTES * 12_500;
      // Made on the server itself, over its Unix socket.
      asPostgres(
        ...['psql', '-q', '-h', folder.path, '-c'],
        `CREATE TABLE saffron AS SELECT g AS id, 'saffron ' || md5(g::text) || md5((g * 7)::text) AS text FROM generate_series(1, ${rows}) g`,
      );
      asPostgres('createdb', '-h', folder.path, 'copy');
      const dump = join(folder.path, 'dump.sql');
      await secretly(
        pair,
        ['saffron', 'COPY ', 'SELECT'],
        () => {
          pair.client.run('pg_dump', [...server, '-f', dump, 'postgres']);
          psql(pair.client, ...server, '-d', 'copy', '-f', dump);
        },
        400,
      );
      const size = readFileSync(dump).length;
      assert.ok(size > DUMP_MEGABYTES * 800_000, `${size} bytes`);
      const again = join(folder.path, 'again.sql');
      asPostgres('pg_dump', '-h', folder.path, '-f', again, 'copy');
      assert.ok(dumped(again) === dumped(dump), 'the dump of the copy is the dump');
      t.diagnostic(`${size} bytes each way`);
      assertAllEncrypted(pair, 2);
      await ended(postgres, 'SIGINT');
    }),
);

/** A dump without the random key that guards it against its own contents. */
const dumped = (file: string): string => readFileSync(file, 'latin1').replace(/^\\(un)?restrict .*$/gm, '');

async function startPostgres(host: Host, folder: string) {
  const version = readdirSync('/usr/lib/postgresql').sort().at(-1)!;
  const bin = `/usr/lib/postgresql/${version}/bin`;
  const uid = Number(host.run('id', ['-u', 'postgres']).stdout);
  const gid = Number(host.run('id', ['-g', 'postgres']).stdout);
  const data = join(folder, 'data');
  mkdirSync(data);
  for (const each of [folder, data]) chownSync(each, uid, gid);
  chmodSync(folder, 0o755);
  const become = [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'];
  const asPostgres = (command: string, ...args: string[]) =>
    host.run('setpriv', [...become, command, ...args], { cwd: folder }).stdout;
  asPostgres(
    `${bin}/initdb`,
    '-D',
    data,
    '-A',
    'trust',
    '-U',
    'postgres',
    '--no-sync',
    '-E',
    'UTF8',
    '--locale=C',
  );
  writeFileSync(join(data, 'pg_hba.conf'), 'local all all trust\nhost all all all trust\n');
  const settings = [
    'listen_addresses=*',
    `unix_socket_directories=${folder}`,
    'fsync=off',
    'ssl=off',
    'max_wal_size=1GB',
  ];
  const postgres = host.spawn(
    'setpriv',
    [...become, `${bin}/postgres`, '-D', data, ...settings.flatMap((each) => ['-c', each])],
    {
      stdio: 'ignore',
      cwd: folder,
    },
  );
  await eventually(
    () =>
      host.run('setpriv', [...become, `${bin}/pg_isready`, '-h', folder], { allowFailure: true }).status ===
      0,
    'PostgreSQL answers',
    20_000,
  );
  return { postgres, asPostgres };
}

test(
  'Redis: its benchmark with 50 connections, and a value of 4 MB there and back',
  { timeout: 60_000 },
  (t) =>
    withPair(t, async (pair) => {
      using folder = temporaryFolder();
      const redis = pair.server.spawn(
        'redis-server',
        ['--bind', '0.0.0.0', '--protected-mode', 'no', '--save', '', '--dir', folder.path],
        { stdio: 'ignore' },
      );
      await eventually(
        () => pair.server.run('redis-cli', ['ping'], { allowFailure: true }).stdout.trim() === 'PONG',
        'Redis answers',
      );
      const value = randomBytes(2_000_000).toString('hex');
      await secretly(
        pair,
        ['key:__rand_int__', 'saffron', '\r\n$200\r\n'],
        () => {
          const how = `-h ${pair.address} -q -n 3000 -c 50 -t set,get -d 200`;
          const { stdout } = pair.client.run('redis-benchmark', how.split(' '));
          assert.match(stdout, /SET: [\d.]+ requests per second/);
          t.diagnostic(
            stdout
              .replaceAll('\r', '\n')
              .split('\n')
              .filter((line) => /requests per second/.test(line))
              .join('; '),
          );
          pair.client.run('redis-cli', ['-h', pair.address, '-x', 'set', 'saffron'], { input: value });
          assert.equal(
            pair.client.run('redis-cli', ['-h', pair.address, 'get', 'saffron']).stdout.trim(),
            value,
          );
        },
        400,
      );
      assertAllEncrypted(pair, 50);
      await ended(redis);
    }),
);

test('OpenSSH: scp of 20 MB there and back, and a command', { timeout: 60_000 }, (t) =>
  withPair(t, async (pair) => {
    using folder = temporaryFolder();
    const at = (name: string): string => join(folder.path, name);
    for (const key of ['host', 'user'])
      pair.server.run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(key)]);
    mkdirSync('/run/sshd', { recursive: true });
    writeFileSync(
      at('sshd_config'),
      [
        ...[
          'Port 22',
          `HostKey ${at('host')}`,
          `PidFile ${at('pid')}`,
          `AuthorizedKeysFile ${at('user.pub')}`,
        ],
        ...['StrictModes no', 'UsePAM no', 'PermitRootLogin yes', 'PasswordAuthentication no'],
        ...['Subsystem sftp internal-sftp', ''],
      ].join('\n'),
    );
    const sshd = pair.server.spawn('/usr/sbin/sshd', ['-D', '-e', '-f', at('sshd_config')], {
      stdio: 'ignore',
    });
    const settings = [
      'StrictHostKeyChecking=no',
      `UserKnownHostsFile=${at('known')}`,
      'BatchMode=yes',
      'ConnectTimeout=10',
    ];
    const options = ['-i', at('user'), '-F', 'none', ...settings.flatMap((each) => ['-o', each])];
    const ssh = (...args: string[]) =>
      pair.client.run('ssh', [...options, `root@${pair.address}`, ...args], { allowFailure: true });
    await eventually(
      () => pair.server.run('bash', ['-c', ': </dev/tcp/127.0.0.1/22'], { allowFailure: true }).status === 0,
      'sshd listens',
    );
    // SSH is ciphertext in any case; its banner is not, and the server says it first.
    await secretly(pair, ['SSH-2.0-', 'curve25519-sha256'], () => {
      const said = ssh('echo', 'spoken');
      assert.equal(said.stdout, 'spoken\n', said.stderr);
      const bytes = randomBytes(20_000_000);
      writeFileSync(at('sent'), bytes);
      pair.client.run('scp', ['-q', ...options, at('sent'), `root@${pair.address}:${at('there')}`]);
      pair.client.run('scp', ['-q', ...options, `root@${pair.address}:${at('there')}`, at('back')]);
      assert.ok(readFileSync(at('there')).equals(bytes) && readFileSync(at('back')).equals(bytes));
    });
    assertAllEncrypted(pair, 3);
    await ended(sshd);
  }),
);
