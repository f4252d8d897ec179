/** For the tests of the executable: building it, calling it as a runtime would, and a server on a Unix socket. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
/** The one under test; the sanitiser's test sets another. */
const given = process.env['TCPCRYPT_TEST_EXECUTABLE'];

export function build(environment: Record<string, string> = {}): void {
  if (given !== undefined) return;
  const env = { ...process.env, ...environment };
  execFileSync('sh', [path('../../scripts/build-executable')], { env, stdio: 'pipe' });
}

export const executable = given ?? path('./build/tcpcrypt-node');

export interface Finished {
  readonly status: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function start(args: readonly string[], env: Record<string, string> = {}, input?: string) {
  const keep = process.env['ASAN_OPTIONS'] === undefined ? {} : { ASAN_OPTIONS: process.env['ASAN_OPTIONS'] };
  const child = spawn(executable, args, { env: { PATH: process.env['PATH'] ?? '', ...keep, ...env } });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text;
  });
  child.stdin.on('error', () => {});
  child.stdin.end(input ?? '');
  const finished: Promise<Finished> = once(child, 'close').then(([status, signal]) => ({
    ...{ status, signal, stdout, stderr },
  }));
  return { child, finished, stdout: () => stdout, stderr: () => stderr };
}

export const cniEnvironment = {
  CNI_CONTAINERID: 'c0ffee',
  CNI_NETNS: '/proc/self/ns/net',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/opt/cni/bin',
  CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0',
};

export async function callPlugin(
  command: string,
  config: unknown,
  env: Record<string, string> = {},
): Promise<Finished & { readonly result: unknown }> {
  const input = typeof config === 'string' ? config : JSON.stringify(config);
  const output = await start([], { ...cniEnvironment, CNI_COMMAND: command, ...env }, input).finished;
  return { ...output, result: output.stdout === '' ? undefined : JSON.parse(output.stdout) };
}

export function temporaryFolder(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'tcpcrypt-cni-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

export type Answer = (request: IncomingMessage, body: string, response: ServerResponse) => void;

/** Stands where the node agent or the rewriter does. */
export async function serve(
  socketPath: string,
  answer: Answer,
): Promise<AsyncDisposable & { readonly bodies: string[] }> {
  const bodies: string[] = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    bodies.push(body);
    answer(request, body, response);
  });
  server.listen(socketPath);
  await once(server, 'listening');
  return {
    bodies,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

export const answers =
  (value: unknown): Answer =>
  (_request, _body, response) => {
    response.end(typeof value === 'string' ? value : JSON.stringify(value));
  };
