/**
 * The node agent, started by bin/tcpcrypt-node-agent. Pure parts: `installer/conflist.ts`, `request.ts`, `totals.ts`,
 * `rule-options.ts`. This folder may import `netfilter/`, `policy/`, `kubernetes/`, `observability/` and `errors/`;
 * nothing of `sidecar/` or `operator/`. Invariant: whatever fails here, pods start and their TCP flows; what is lost is
 * encryption, and that is reported.
 */
import { TcpcryptError } from '../../errors/catalogue.ts';
import { createLogger } from '../../observability/log.ts';
import manifest from '../../package.json' with { type: 'json' };
import { parseCommand } from './commands.ts';

process.stdout.on('error', () => {});
process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  try {
    const invocation = parseCommand(args, process.env);
    if (invocation.kind === 'print') process.stdout.write(invocation.text);
    else if (invocation.kind === 'version') process.stdout.write(`tcpcrypt-node-agent ${manifest.version}\n`);
    else {
      const { run } = await import('./run.ts');
      await run(invocation.options, await createLogger(invocation.logLevel), manifest.version);
    }
    return 0;
  } catch (error) {
    const known = error instanceof TcpcryptError;
    const code = known ? error.code : 'ERR_TCPCRYPT_INTERNAL';
    const message = known ? error.message : String((error as Error).stack ?? error);
    process.stderr.write(`tcpcrypt-node-agent: ${code}: ${message}\n`);
    return code === 'ERR_TCPCRYPT_USAGE' ? 2 : 1;
  }
}
