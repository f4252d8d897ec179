/** The rewriter itself, as the simulation's hosts run it, and with the addon's transforms, as production does. */

import { nativeSuites } from '../../sidecar/nfqueue-bindings/suites.ts';
import { Rewriter } from '../../sidecar/rewriter/rewriter.ts';
import type { MachineFactory } from './machine.ts';

export const realMachine: MachineFactory = (options) => new Rewriter(options);
export const nativeMachine: MachineFactory = (options) => new Rewriter({ ...options, suites: nativeSuites });
