import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseQueueStatistics, parseRoutes4, parseRoutes6 } from './kernel-state.ts';

test("the kernel's queue statistics", () => {
  const text = ` 5440   4105     3 2 65531    10     2     1234  1
 5441  -4106     0 2 65531     0     0        0  1
`;
  assert.deepEqual(
    [...parseQueueStatistics(text)],
    [
      [5440, 12],
      [5441, 0],
    ],
  );
  assert.deepEqual([...parseQueueStatistics('')], []);
});

test("the kernel's default routes: their next hops", () => {
  const text = `Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101F40A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000F40A\t0201F40A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
eth1\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0
`;
  assert.deepEqual(parseRoutes4(text), ['10.244.1.1']);
  const zeros = '0'.repeat(32);
  const rest = '00000400 00000001 00000000 00000003     eth0';
  const hop = 'fd000000000000000000000000000001';
  const text6 = `${hop} 80 ${zeros} 00 ${zeros} ${rest}
${zeros} 00 ${zeros} 00 ${hop} ${rest}
${zeros} 00 ${zeros} 00 ${zeros} ffffffff 00000001 00000000 00200200       lo
`;
  assert.deepEqual(parseRoutes6(text6), ['fd00::1']);
  assert.deepEqual([...parseRoutes4(''), ...parseRoutes6('')], []);
});
