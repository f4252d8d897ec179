import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseQueueStatistics } from './kernel-state.ts';

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
