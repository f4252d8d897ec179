import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requireCapabilities } from './privileges.ts';

test('what may be done: both capabilities, or an error that names what is missing', () => {
  requireCapabilities('CapPrm:\t0\nCapEff:\t0000000000003000\n');
  assert.throws(() => requireCapabilities('CapEff:\t0000000000001000\n'), {
    code: 'ERR_TCPCRYPT_NOT_ROOT',
    message: /NET_RAW is missing/,
  });
  assert.throws(() => requireCapabilities(''), { message: /NET_ADMIN and NET_RAW/ });
});
