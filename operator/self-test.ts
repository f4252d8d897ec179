/**
 * What `helm test` runs: two pods of the release's own image, injected like any others, and a connection between them
 * that both must see encrypted. Nothing here knows of tcpcrypt but the question to the local API.
 */
import { once } from 'node:events';
import { request } from 'node:http';
import { connect, createServer, isIPv6, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { TcpcryptError } from '../errors/catalogue.ts';
import type { SelfTestPlace } from './commands.ts';

const AGAIN_MS = 1000;
const CONNECT_WITHIN_MS = 10_000;
const ANSWER_WITHIN_MS = 5000;
const MAX_ANSWER_BYTES = 65_536;
const MAX_CLIENTS = 16;

/** What each side knows of the connection, from its own sidecar. */
interface View {
  readonly sessionId: string;
  readonly keyExchange: string;
  readonly suite: string;
}

/** Answers each connection with this side's view of it. Runs until SIGTERM. */
export async function serveSelfTest({ port, apiSocket }: SelfTestPlace): Promise<void> {
  const server = createServer((socket) => {
    socket.setTimeout(CONNECT_WITHIN_MS, () => socket.destroy());
    socket.on('error', () => {});
    // A first byte of the client's: by then the connection is set up at both ends.
    socket.once('data', () => {
      viewOf(socket, apiSocket).then(
        (view) => socket.end(JSON.stringify({ view })),
        (error: Error) => socket.end(JSON.stringify({ problem: error.message })),
      );
    });
  });
  server.maxConnections = MAX_CLIENTS;
  server.listen(port, '::');
  await once(server, 'listening');
  process.stdout.write('ready\n');
  await Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]);
  server.close();
}

/** Connects until both ends see the connection encrypted, and under the same session ID. Throws ERR_TCPCRYPT_SELF_TEST. */
export async function selfTest({
  host,
  waitMs,
  ...place
}: SelfTestPlace & { readonly host: string; readonly waitMs: number }): Promise<string> {
  const endMs = performance.now() + waitMs;
  for (;;) {
    try {
      const { here, there } = await attempt(host, place);
      if (here.sessionId !== there.sessionId) throw new Error('the ends have different session IDs');
      return `encrypted: ${here.keyExchange}, ${here.suite}, session ${here.sessionId}`;
    } catch (error) {
      const message = (error as Error).message;
      if (performance.now() >= endMs) throw new TcpcryptError('ERR_TCPCRYPT_SELF_TEST', message);
      process.stderr.write(`not yet: ${message}\n`);
      await sleep(AGAIN_MS);
    }
  }
}

async function attempt(
  host: string,
  { port, apiSocket }: SelfTestPlace,
): Promise<{ here: View; there: View }> {
  const socket = connect({ host, port, timeout: CONNECT_WITHIN_MS });
  socket.on('timeout', () => socket.destroy(new Error('no answer in time')));
  try {
    await once(socket, 'connect');
    socket.write('?');
    let text = '';
    const answered = (async () => {
      for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
        text += chunk;
        if (text.length > MAX_ANSWER_BYTES) throw new Error('the answer is too long');
        // Asked while the connection is open.
        if (text.endsWith('}')) return await viewOf(socket, apiSocket);
      }
      throw new Error('the server closed without an answer');
    })();
    const here = await answered;
    const { view, problem } = JSON.parse(text) as { view?: View; problem?: string };
    if (view === undefined) throw new Error(`the server says: ${problem}`);
    return { here, there: view };
  } finally {
    socket.destroy();
  }
}

/** Asks this pod's sidecar. */
async function viewOf(
  { localAddress, localPort, remoteAddress, remotePort }: Socket,
  socketPath: string,
): Promise<View> {
  const query = new URLSearchParams({
    local: endpoint(localAddress, localPort),
    remote: endpoint(remoteAddress, remotePort),
  });
  const call = request({ socketPath, path: `/v1/sessions?${query}`, agent: false }).end();
  call.setTimeout(ANSWER_WITHIN_MS, () => call.destroy(new Error('the sidecar does not answer')));
  const [response] = await once(call, 'response').catch((error: Error) => {
    throw new Error(`is this pod injected? ${socketPath}: ${error.message}`);
  });
  let body = '';
  for await (const chunk of response.setEncoding('utf8')) body += chunk;
  if (response.statusCode !== 200) throw new Error((JSON.parse(body) as { detail: string }).detail);
  return JSON.parse(body) as View;
}

function endpoint(address = '', port = 0): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/, '');
  return isIPv6(plain) ? `[${plain}]:${port}` : `${plain}:${port}`;
}
