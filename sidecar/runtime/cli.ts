/**
 * The data plane's command, started by bin/tcpcrypt. This folder puts the process together: configuration, threads,
 * metrics, the local API, checkpoint, shutdown. It may import every layer of `sidecar/` below it, `policy/`,
 * `netfilter/`, `command-line/` and `errors/`. Invariant: the packet thread never waits for anything of the main thread's.
 */
import { setTimeout } from 'node:timers/promises';
import { exitStatus } from '../../command-line/exit.ts';
import { createLogger, type LogLevel } from '../../observability/log.ts';
import type { ApiConnection } from './api.ts';
import { apiGet } from './api-client.ts';
import { type Invocation, parseArguments } from './arguments.ts';
import { connectionsTable } from './connections-table.ts';
import { version } from './version.ts';

const WATCH_MS = 1000;
/** ANSI: cursor home, erase from there. */
const CLEAR = '\x1b[H\x1b[J';

process.exitCode = await exitStatus('tcpcrypt', () => perform(parseArguments(process.argv.slice(2))));

async function perform(invocation: Invocation): Promise<void> {
  switch (invocation.kind) {
    case 'print':
      process.stdout.write(invocation.text);
      return;
    case 'version':
      process.stdout.write(`tcpcrypt ${version}\n`);
      return;
    case 'run': {
      const { run } = await import('./run.ts');
      return run(invocation.options, await createLogger(invocation.logLevel));
    }
    case 'rules':
      return rules(invocation, invocation.logLevel);
    case 'connections':
      return connections(invocation);
    case 'session-id': {
      const { apiSocket, local, remote } = invocation;
      const query = new URLSearchParams({ local, remote });
      const { sessionId } = JSON.parse(await apiGet(apiSocket, `/v1/sessions?${query}`)) as ApiConnection;
      process.stdout.write(`${sessionId}\n`);
      return;
    }
    case 'metrics':
      process.stdout.write(await apiGet(invocation.apiSocket, '/v1/metrics'));
  }
}

async function rules({ action, rules }: Invocation & { kind: 'rules' }, level: LogLevel): Promise<void> {
  const { installRules, removeRules, verifyRules } = await import('./rules.ts');
  if (rules === undefined) await removeRules();
  else if (action === 'verify') await verifyRules(rules);
  else await installRules(rules, await createLogger(level));
}

async function connections(options: Invocation & { kind: 'connections' }): Promise<void> {
  for (;;) {
    const answer = await apiGet(options.apiSocket, '/v1/connections');
    const { connections } = JSON.parse(answer) as { connections: ApiConnection[] };
    const text = options.json
      ? `${JSON.stringify(connections, null, 2)}\n`
      : connectionsTable(connections, Date.now());
    const clear = options.watch && !options.json && process.stdout.isTTY;
    process.stdout.write(clear ? CLEAR + text : text);
    if (!options.watch) return;
    await setTimeout(WATCH_MS);
  }
}
