/** The rewriter itself, as the simulation's hosts run it, and as production does. */

import { nativeSuites } from '../../sidecar/nfqueue-bindings/suites.ts';
import { HEADROOM_BYTES } from '../../sidecar/rewriter/fast-path.ts';
import { Rewriter } from '../../sidecar/rewriter/rewriter.ts';
import type { MachineFactory } from './machine.ts';

export const realMachine: MachineFactory = (options) => new Rewriter(options);

/** With the addon's transforms, and each packet offered to the quick way first. */
export const productionMachine: MachineFactory = (options) => {
  const rewriter = new Rewriter({ ...options, suites: nativeSuites });
  const handle = rewriter.handle.bind(rewriter);
  rewriter.handle = (direction, bytes, token, mark, now, offload) => {
    const ring = Buffer.concat([Buffer.alloc(HEADROOM_BYTES), bytes]);
    const asked = mark === 'tcpcrypt' || mark === 'superSegment';
    const start = asked
      ? rewriter.rewriteInPlace(direction, ring, HEADROOM_BYTES, ring.length, mark, now, offload)
      : -1;
    if (start < 0) handle(direction, bytes, token, mark, now, offload);
    else options.output.verdict(token, { kind: 'accept', bytes: ring.subarray(start) });
  };
  return rewriter;
};
