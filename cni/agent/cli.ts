/**
 * The node agent, started by bin/tcpcrypt-node-agent. Pure parts: `installer/conflist.ts`, `request.ts`, `totals.ts`,
 * `rule-options.ts`. This folder may import `netfilter/`, `policy/`, `kubernetes/`, `observability/`, `command-line/` and
 * `errors/`; nothing of `sidecar/` or `operator/`. Invariant: whatever fails here, pods start and their TCP flows; what is lost is
 * encryption, and that is reported.
 */
import { exitStatus } from '../../command-line/exit.ts';
import { createLogger } from '../../observability/log.ts';
import manifest from '../../package.json' with { type: 'json' };
import { parseCommand } from './commands.ts';

process.exitCode = await exitStatus('tcpcrypt-node-agent', perform);

async function perform(): Promise<void> {
  const invocation = parseCommand(process.argv.slice(2), process.env);
  if (invocation.kind === 'print') process.stdout.write(invocation.text);
  else if (invocation.kind === 'version') process.stdout.write(`tcpcrypt-node-agent ${manifest.version}\n`);
  else {
    const { run } = await import('./run.ts');
    await run(invocation.options, await createLogger(invocation.logLevel), manifest.version);
  }
}
