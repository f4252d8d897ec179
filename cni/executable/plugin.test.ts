/** The plugin's face against the CNI specification 1.1: verbs, versions, errors, and an agent that is not what it should be. */
import assert from 'node:assert/strict';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { answers, build, callPlugin, serve, temporaryFolder } from './testing.ts';

const NOWHERE = '/nonexistent/agent.sock';
const prevResult = { cniVersion: '1.1.0', interfaces: [{ name: 'eth0' }], ips: [{ address: '10.1.0.2/24' }] };
const config = (more: object = {}) => ({
  ...{ cniVersion: '1.1.0', name: 'pods', type: 'tcpcrypt', agentSocket: NOWHERE, prevResult },
  ...more,
});
const code = ({ result }: { result: unknown }) => (result as { code: number }).code;

before(() => build());

describe('VERSION', () => {
  const supportedVersions = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'];
  test('tells the versions, and the one it was asked in', async () => {
    const { status, result } = await callPlugin('VERSION', { cniVersion: '1.0.0' });
    assert.equal(status, 0);
    assert.deepEqual(result, { cniVersion: '1.0.0', supportedVersions });
  });
  for (const input of ['', 'null', '{', '[]', '{"cniVersion": 3}']) {
    test(`answers whoever says ${input || 'nothing'}`, async () => {
      const { status, result } = await callPlugin('VERSION', input);
      assert.equal(status, 0);
      assert.deepEqual(result, { cniVersion: '1.1.0', supportedVersions });
    });
  }
});

describe('ADD', () => {
  test('passes prevResult on byte for byte, whatever it holds', async () => {
    using folder = temporaryFolder();
    const agentSocket = join(folder.path, 'agent.sock');
    await using _agent = await serve(agentSocket, answers({ code: 0 }));
    const raw = '{ "x": 123456789012345678901234567890.50,\n "ips" : [ {"a\\u0062":"}\\"]"} ], "e":1E-400}';
    const socket = JSON.stringify(agentSocket);
    const text = `{"cniVersion":"1.1.0","name":"pods","agentSocket":${socket},"prevResult": ${raw} }`;
    const { status, stdout } = await callPlugin('ADD', text);
    assert.equal(status, 0);
    assert.equal(stdout, raw);
  });

  test('hands environment and configuration to the agent', async () => {
    using folder = temporaryFolder();
    const agentSocket = join(folder.path, 'agent.sock');
    await using agent = await serve(agentSocket, answers({ code: 0 }));
    const sent = config({ agentSocket, runtimeConfig: { portMappings: [] } });
    await callPlugin('ADD', sent);
    assert.deepEqual(JSON.parse(agent.bodies[0]!), {
      command: 'ADD',
      containerId: 'c0ffee',
      netns: '/proc/self/ns/net',
      ifname: 'eth0',
      args: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0',
      config: sent,
    });
  });

  test("gives the agent's error to the runtime", async () => {
    using folder = temporaryFolder();
    const agentSocket = join(folder.path, 'agent.sock');
    await using _agent = await serve(agentSocket, answers({ code: 101, msg: 'no rules', details: 'why' }));
    const { status, result } = await callPlugin('ADD', config({ agentSocket, cniVersion: '1.0.0' }));
    assert.equal(status, 1);
    assert.deepEqual(result, { cniVersion: '1.0.0', code: 101, msg: 'no rules', details: 'why' });
  });

  test('without prevResult is invalid: this plugin comes last in a chain', async () => {
    for (const value of [undefined, null, 'x', []]) {
      const output = await callPlugin('ADD', config({ prevResult: value }));
      assert.deepEqual([output.status, code(output)], [1, 7]);
    }
  });
});

describe('an agent that does not answer', () => {
  const verbs = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS'];
  for (const verb of verbs) {
    test(`${verb}: nothing happens, by default`, async () => {
      const output = await callPlugin(verb, config());
      assert.equal(output.status, 0, output.stdout);
      assert.deepEqual(output.result, verb === 'ADD' ? prevResult : undefined);
      assert.match(output.stderr, /does not answer: skipped: connect: No such file/);
    });
  }
  const failing = config({ agentUnavailable: 'Fail', exemptNamespaces: ['kube-system', 'tcpcrypt-system'] });
  const expected: Record<string, number | undefined> = { ADD: 11, CHECK: 11, STATUS: 50 };
  for (const verb of verbs) {
    test(`${verb} under Fail: ${expected[verb] === undefined ? 'succeeds' : `error ${expected[verb]}`}`, async () => {
      const output = await callPlugin(verb, failing);
      assert.equal(output.status, expected[verb] === undefined ? 0 : 1);
      if (expected[verb] !== undefined) assert.equal(code(output), expected[verb]);
    });
  }
  for (const [podNamespace, status] of [
    ['kube-system', 0],
    ['tcpcrypt-system', 0],
    ['kube-system2', 1],
    ['', 0],
    ['shop', 1],
  ] as const) {
    test(`ADD under Fail for a pod of ${podNamespace || 'no namespace'}: ${status}`, async () => {
      const env = {
        CNI_ARGS: `XK8S_POD_NAMESPACE=kube-system;K8S_POD_NAMESPACE=${podNamespace};K8S_POD_NAME=a`,
      };
      assert.equal((await callPlugin('ADD', failing, env)).status, status);
    });
  }
  test('CHECK of a namespace that is gone succeeds', async () => {
    const { status } = await callPlugin('CHECK', failing, { CNI_NETNS: '/run/netns/gone' });
    assert.equal(status, 0);
  });

  const bad: Record<string, (socket: Socket) => void> = {
    'hangs before it reads': (socket) => socket.pause(),
    'sends byte after byte for ever': (socket) => {
      const timer = setInterval(() => socket.write('H'), 50);
      socket.on('close', () => clearInterval(timer));
    },
    'closes at once': (socket) => socket.destroy(),
    'is no HTTP server': (socket) => socket.end('220 mail.example ESMTP\r\n\r\n'),
    'answers with a status': (socket) => socket.end('HTTP/1.1 503 no\r\n\r\n{"code":0}'),
    'answers with garbage': (socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n{"code":'),
    'answers without a code': (socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n{"code":"0"}'),
    'answers without end': (socket) => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      const more = () => {
        while (socket.write(Buffer.alloc(65536, ' ')));
      };
      socket.on('drain', more);
      more();
    },
  };
  for (const [what, behave] of Object.entries(bad)) {
    test(`is one that ${what}`, async () => {
      using folder = temporaryFolder();
      const agentSocket = join(folder.path, 'agent.sock');
      const sockets = new Set<Socket>();
      const server = createServer((socket) => {
        sockets.add(socket.on('error', () => {}).on('data', () => {}));
        behave(socket);
      }).listen(agentSocket);
      try {
        const skipped = await callPlugin('ADD', config({ agentSocket }));
        assert.deepEqual([skipped.status, skipped.result], [0, prevResult]);
        assert.match(skipped.stderr, /skipped/);
      } finally {
        server.close();
        for (const socket of sockets) socket.destroy();
      }
    });
  }
});

describe('errors of the specification', () => {
  const cases: readonly (readonly [string, string, unknown, Record<string, string>, number])[] = [
    ['a version that is not known', 'ADD', config({ cniVersion: '1.2.0' }), {}, 1],
    ['a version too old', 'ADD', config({ cniVersion: '0.2.0' }), {}, 1],
    ['no version', 'ADD', config({ cniVersion: undefined }), {}, 1],
    ['CHECK in 0.3.1', 'CHECK', config({ cniVersion: '0.3.1' }), {}, 1],
    ['GC in 1.0.0', 'GC', config({ cniVersion: '1.0.0' }), {}, 1],
    ['STATUS in 1.0.0', 'STATUS', config({ cniVersion: '1.0.0' }), {}, 1],
    ['a verb that there is not', 'UPDATE', config(), {}, 4],
    ['no container ID', 'ADD', config(), { CNI_CONTAINERID: '' }, 4],
    ['a container ID that is none', 'DEL', config(), { CNI_CONTAINERID: '../x' }, 4],
    ['no namespace', 'ADD', config(), { CNI_NETNS: '' }, 4],
    ['no interface', 'CHECK', config(), { CNI_IFNAME: '' }, 4],
    ['an interface name too long', 'ADD', config(), { CNI_IFNAME: 'sixteencharacter' }, 4],
    ['an interface name with a slash', 'ADD', config(), { CNI_IFNAME: 'a/b' }, 4],
    ['no path', 'STATUS', config(), { CNI_PATH: '' }, 4],
    ['no JSON', 'ADD', '{', {}, 6],
    ['no object', 'ADD', '[]', {}, 6],
    ['nothing', 'DEL', '', {}, 6],
    ['a name twice', 'ADD', '{"cniVersion":"1.1.0","name":"a","n\\u0061me":"b"}', {}, 6],
    ['too deep', 'ADD', `{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, {}, 6],
    ['too long', 'ADD', JSON.stringify(config({ x: 'x'.repeat(1 << 20) })), {}, 6],
    ['no network name', 'ADD', config({ name: undefined }), {}, 7],
    ['a network name that is none', 'ADD', config({ name: '-x' }), {}, 7],
    ['a setting that there is not', 'ADD', config({ agentUnavailable: 'fail' }), {}, 7],
    ['exempt namespaces that are none', 'ADD', config({ exemptNamespaces: [1] }), {}, 7],
    ['a socket path too long', 'ADD', config({ agentSocket: `/${'x'.repeat(107)}` }), {}, 7],
    ['a relative socket path', 'ADD', config({ agentSocket: 'agent.sock' }), {}, 7],
  ];
  for (const [what, verb, input, env, expected] of cases) {
    test(`${what}: ${expected}`, async () => {
      const output = await callPlugin(verb, input, env);
      assert.deepEqual([output.status, code(output)], [1, expected], output.stdout);
      const { cniVersion, msg } = output.result as { cniVersion: string; msg: string };
      assert.ok(cniVersion.length > 0 && msg.length > 0);
    });
  }
  test('DEL needs no namespace and no prevResult', async () => {
    const output = await callPlugin('DEL', config({ prevResult: undefined }), { CNI_NETNS: '' });
    assert.equal(output.status, 0, output.stdout);
  });
});
