/** Byte-checked transfers between namespaces (`peer.ts` runs in each). */
import type { ChildProcess } from 'node:child_process';
import type { Host } from './namespaces.ts';
import type { ClientOptions, ClientResult, ServerOptions } from './peer.ts';
import { finished, saying } from './processes.ts';

const program = new URL('./peer.ts', import.meta.url).pathname;

/** Starts the server; it ends with the lab. */
export async function startServer(host: Host, options: ServerOptions): Promise<ChildProcess> {
  const child = host.spawnNode(program, ['server', JSON.stringify(options)]);
  child.stderr?.on('data', (chunk: Buffer) => process.stderr.write(chunk));
  await saying(child, 'listening');
  return child;
}

/** Runs the client to its end. Its result says what went wrong, if something did; it throws only if it broke. */
export async function transfer(host: Host, options: ClientOptions): Promise<ClientResult> {
  const child = host.spawnNode(program, ['client', JSON.stringify(options)]);
  const { stdout, stderr, code } = await finished(child, (options.timeoutMs ?? 30_000) + 10_000);
  if (code !== 0) throw new Error(`the client ended with ${code}: ${stderr}`);
  return JSON.parse(stdout);
}
