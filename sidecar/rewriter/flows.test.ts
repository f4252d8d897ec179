import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { ACK, type Direction, flowKey } from '../wire/packet.ts';
import { makePacket } from '../wire/testing.ts';
import type { Connection } from './connection.ts';
import { emptyPlace, Flows, placeFlow } from './flows.ts';

const place = emptyPlace();

interface Flow {
  readonly version: 4 | 6;
  readonly direction: Direction;
  readonly host: number;
  readonly port: number;
}

/** Looks a packet of a flow up, and says what its key is. */
function lookUp(flows: Flows, { version, direction, host, port }: Flow) {
  const [here, there] = version === 4 ? ['10.0.0.9', `10.0.0.${host}`] : ['fd00::9', `fd00::${host}`];
  const [source, destination] = direction === 'out' ? [here, there] : [there, here];
  const [sourcePort, destinationPort] = direction === 'out' ? [port, 443] : [443, port];
  const addresses = { source: source!, destination: destination!, sourcePort, destinationPort };
  const p = makePacket({ version, ...addresses, seq: 0, ack: 0, flags: ACK, window: 0 });
  const bytes = Buffer.concat([Buffer.alloc(5), p.bytes]);
  placeFlow(place, 5, 5 + p.tcp, direction === 'out');
  return { key: flowKey(p, direction), found: flows.find(bytes, place) };
}

it('finds what was added and not removed, by packets in both directions', () => {
  const change = fc.record({
    version: fc.constantFrom(4 as const, 6 as const),
    direction: fc.constantFrom('in' as const, 'out' as const),
    host: fc.integer({ min: 1, max: 4 }),
    port: fc.integer({ min: 1, max: 120 }),
    remove: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(change, { minLength: 300, maxLength: 600 }), (changes) => {
      // As many as there are slots before it grows, so that they stand in each other's way.
      const flows = new Flows();
      const table = new Map<string, Connection>();
      for (const flow of changes) {
        const { key, found } = lookUp(flows, flow);
        assert.equal(found, table.get(key));
        if (found === undefined) {
          const c = { key } as Connection;
          table.set(key, c);
          flows.add(c);
        } else if (flow.remove) {
          table.delete(key);
          flows.remove(found);
        }
      }
      for (const flow of changes) {
        const { key, found } = lookUp(flows, flow);
        assert.equal(found, table.get(key));
      }
      for (const c of table.values()) flows.remove(c);
      for (const flow of changes) assert.equal(lookUp(flows, flow).found, undefined);
    }),
    { numRuns: 30 },
  );
});

it('removes nothing that is not there', () => {
  const flows = new Flows();
  const flow = { version: 4, direction: 'in', host: 1, port: 7 } as const;
  const { key } = lookUp(flows, flow);
  const c = { key } as Connection;
  flows.add(c);
  flows.remove({ key } as Connection);
  assert.equal(lookUp(flows, flow).found, c);
});
