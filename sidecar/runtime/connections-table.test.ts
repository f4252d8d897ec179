import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connectionsTable } from './connections-table.ts';
import { encrypted, plain } from './testing.ts';

test('the table of connections: encrypted first, columns in line, nothing at line ends', () => {
  const now = Date.parse('2026-01-01T01:01:01Z');
  const shown = [plain, encrypted].map(({ openedAtMs: _, ...rest }) => ({
    ...rest,
    openedAt: '2026-01-01T00:00:00Z',
  }));
  assert.equal(
    connectionsTable(shown, now),
    `ROLE       LOCAL           REMOTE           STATE                     KEY EXCHANGE    SUITE             HANDSHAKE  AUTH  AGE   IN       OUT   SESSION ID
C active   10.0.0.1:40000  10.0.0.2:443     encrypted                 X25519MLKEM768  AES-128-CTR-GMAC  full       yes   1h1m  1.5 KiB  10 B  ${'ab'.repeat(32)}
S passive  [fd00::1]:80    [fd00::2]:40001  plain (peer_unsupported)  -               -                 -          no    1h1m  0 B      0 B   -
`,
  );
  assert.equal(connectionsTable([], now).split('\n').length, 2);
});
