import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConnectionInfo } from '../rewriter/types.ts';
import { Listings } from './listings.ts';
import type { FromPacketThread } from './messages.ts';
import { encrypted } from './testing.ts';

test('a list is made a few connections at a time, one list after the other', () => {
  const many: ConnectionInfo[] = Array.from({ length: 300 }, (_, i) => ({
    ...encrypted,
    local: `10.0.0.1:${i}`,
  }));
  const listings = new Listings(() => many.values());
  const posted: FromPacketThread[] = [];
  listings.add({ id: 1 });
  listings.add({ id: 2, local: '10.0.0.1:299' });
  listings.step((message) => posted.push(message));
  assert.deepEqual(
    posted.map((message) => message.kind),
    ['connections'],
  );
  while (listings.busy) listings.step((message) => posted.push(message));
  const found = (id: number) =>
    posted.flatMap((message) =>
      message.kind === 'connections' && message.id === id ? message.connections : [],
    );
  assert.deepEqual(found(1), many);
  assert.deepEqual(found(2), [many[299]]);
  assert.deepEqual(
    posted.filter(({ kind }) => kind === 'done'),
    [
      { kind: 'done', id: 1 },
      { kind: 'done', id: 2 },
    ],
  );
});

test('a list that fails is answered, and the next one goes on', () => {
  let fails = true;
  const listings = new Listings(() => {
    if (!fails) return [encrypted].values();
    fails = false;
    return { next: () => assert.fail('a bug') };
  });
  const posted: FromPacketThread[] = [];
  listings.add({ id: 1 });
  listings.add({ id: 2 });
  while (listings.busy) listings.step((message) => posted.push(message));
  assert.match((posted[0] as { error: string }).error, /a bug/);
  assert.deepEqual(
    posted.slice(1).map(({ kind }) => kind),
    ['connections', 'done'],
  );
});
