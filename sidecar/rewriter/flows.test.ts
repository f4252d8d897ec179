import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { ACK, flowKey } from '../wire/packet.ts';
import { makePacket } from '../wire/testing.ts';
import type { Connection } from './connection.ts';
import { Flows, placeFlow } from './flows.ts';

const place = { localAt: 0, remoteAt: 0, addressBytes: 0, localPortAt: 0, remotePortAt: 0 };

it('finds what the connection table has under the key of the packet, at any time', () => {
  // Few ends, so that they meet again, and ports 4096 apart, which share a slot.
  const packet = fc.record({
    version: fc.constantFrom(4 as const, 6 as const),
    port: fc.constantFrom(40_000, 44_096, 48_192, 80),
    host: fc.constantFrom('1', '2'),
    direction: fc.constantFrom('in' as const, 'out' as const),
    change: fc.constantFrom('nothing', 'added', 'removed'),
  });
  let found = 0;
  fc.assert(
    fc.property(fc.array(packet, { minLength: 20, maxLength: 40 }), (packets) => {
      const table = new Map<string, Connection>();
      const flows = new Flows(table);
      for (const { version, port, host, direction, change } of packets) {
        const [here, there] = version === 4 ? ['10.0.0.9', `10.0.0.${host}`] : ['fd00::9', `fd00::${host}`];
        const [source, destination] = direction === 'out' ? [here, there] : [there, here];
        const [sourcePort, destinationPort] = direction === 'out' ? [port, 443] : [443, port];
        const addresses = { source: source!, destination: destination!, sourcePort, destinationPort };
        const p = makePacket({ version, ...addresses, seq: 0, ack: 0, flags: ACK, window: 0 });
        const key = flowKey(p, direction);
        const bytes = Buffer.concat([Buffer.alloc(5), p.bytes]);
        placeFlow(place, 5, 5 + p.tcp, direction === 'out');
        const c = flows.find(bytes, place);
        if (c) found++;
        assert.equal(c, table.get(key));
        assert.equal(flows.find(bytes, place), c);
        if (change === 'added') table.set(key, { key } as Connection);
        if (change === 'removed') table.delete(key);
      }
    }),
  );
  assert.ok(found > 50);
});
