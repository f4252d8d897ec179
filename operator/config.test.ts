import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TcpcryptError } from '../errors/catalogue.ts';
import { parseConfig } from './config.ts';

const parse = (text: string) => parseConfig(text, 'tcpcrypt-system');

test('an image is all that must be said', () => {
  const config = parse('injection: {image: "registry.example/tcpcrypt@sha256:01"}');
  assert.equal(config.decision.default, 'enabled');
  assert.deepEqual(config.decision.excludedNamespaces, ['kube-system', 'tcpcrypt-system']);
  assert.equal(config.webhook.port, 10_250);
  assert.equal(config.injection.strict, false);
  assert.deepEqual(config.policy, {});
});

test('a Strict policy makes the pods strict', () => {
  assert.equal(parse('{injection: {image: x}, policy: {mode: Strict}}').injection.strict, true);
});

test('every problem is named, an unknown field among them', () => {
  const text = `
injection: {default: on, args: [run], resources: {cpu: none}, imge: x}
webhook: {port: 0, secret: "A b"}
policy: {mode: Maybe}
extra: 1`;
  assert.throws(
    () => parse(text),
    (error) => {
      assert.ok(error instanceof TcpcryptError);
      assert.equal(error.code, 'ERR_TCPCRYPT_CONFIG_INVALID');
      for (const path of [
        'injection.default',
        'injection.args[0]',
        'injection.resources.cpu',
        'injection.imge',
        'injection.image: is missing',
        'webhook.port',
        'webhook.secret',
        'policy: mode',
        'config.extra',
      ]) {
        assert.ok(error.message.includes(path), `${path} in ${error.message}`);
      }
      return true;
    },
  );
  assert.throws(() => parse('{'), /the file is not YAML/);
});
