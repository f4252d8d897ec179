/** The rewriter itself, as the simulation's hosts run it. */

import { Rewriter } from '../../sidecar/rewriter/rewriter.ts';
import type { MachineFactory } from './machine.ts';

export const realMachine: MachineFactory = (options) => new Rewriter(options);
