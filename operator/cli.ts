/**
 * The operator, started by bin/tcpcrypt-operator. Pure parts: `injection/` (what becomes of a pod), `webhook/review.ts`,
 * `certificates/pair.ts`, `config.ts`. The rest speaks to the API server. This folder may import `policy/`, `kubernetes/`,
 * `observability/`, `command-line/` and `errors/`; nothing of `sidecar/` or `cni/`. Invariant: whatever fails here, pods are made and their
 * TCP flows; what is lost is encryption, and that is reported.
 */

import { exitStatus } from '../command-line/exit.ts';
import { createLogger } from '../observability/log.ts';
import manifest from '../package.json' with { type: 'json' };
import { type Invocation, parseCommand } from './commands.ts';

process.exitCode = await exitStatus('tcpcrypt-operator', () =>
  perform(parseCommand(process.argv.slice(2), process.env)),
);

async function perform(invocation: Invocation): Promise<void> {
  switch (invocation.kind) {
    case 'print':
      process.stdout.write(invocation.text);
      return;
    case 'version':
      process.stdout.write(`tcpcrypt-operator ${manifest.version}\n`);
      return;
    case 'run': {
      const { run } = await import('./run.ts');
      return await run({ ...invocation, version: manifest.version }, await createLogger(invocation.logLevel));
    }
    case 'remove-agents': {
      const { removeAgents } = await import('./remove-agents.ts');
      process.stdout.write(`${await removeAgents(invocation)}\n`);
      return;
    }
    case 'self-test-server': {
      const { serveSelfTest } = await import('./self-test.ts');
      return await serveSelfTest(invocation);
    }
    case 'self-test': {
      const { selfTest } = await import('./self-test.ts');
      process.stdout.write(`${await selfTest(invocation)}\n`);
    }
  }
}
