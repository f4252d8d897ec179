import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TcpcryptError } from '../errors/catalogue.ts';
import { parseCommand } from './commands.ts';

test('run: the pod says who and where', () => {
  const environment = { POD_NAME: 'operator-1', POD_NAMESPACE: 'tcpcrypt-system' };
  assert.deepEqual(parseCommand(['run'], environment), {
    kind: 'run',
    logLevel: 'info',
    config: '/etc/tcpcrypt/operator.yaml',
    namespace: 'tcpcrypt-system',
    identity: 'operator-1',
    kubeconfig: undefined,
  });
});

test('help and version need nothing else', () => {
  const help = parseCommand(['--help'], {});
  assert.ok(help.kind === 'print' && help.text.includes('self-test'));
  assert.equal(parseCommand(['run', '--version'], {}).kind, 'version');
});

test('wrong usage', () => {
  const wrong = [
    [],
    ['walk'],
    ['run'],
    ['run', 'x', '--namespace', 'n', '--identity', 'i'],
    ['self-test'],
    ['remove-agents', '--namespace', 'n'],
    ['remove-agents', 'agents', '--wait', '0', '--namespace', 'n'],
    ['remove-agents', 'agents'],
    ['self-test', 'h', '--port', '0'],
    ['self-test', 'h', '--wait', 'x'],
    ['run', '--namespace', 'n', '--identity', 'i', '--log-level', 'loud'],
    ['run', '--colour'],
  ];
  for (const args of wrong) {
    assert.throws(
      () => parseCommand(args, {}),
      (error) => error instanceof TcpcryptError && error.code === 'ERR_TCPCRYPT_USAGE',
      args.join(' '),
    );
  }
});
