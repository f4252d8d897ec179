/**
 * `npm run demo`: two network namespaces, tcpcrypt in each, nginx and curl between them. Shows that curl and
 * nginx notice nothing, and that who listens on the wire learns nothing. Needs root; leaves nothing behind.
 */
import { Buffer } from 'node:buffer';
import type { ConnectionInfo } from '../../sidecar/rewriter/types.ts';
import type { TcpOption } from '../kernel/middlebox/packet.ts';
import { type Captured, capture } from '../kernel/support/capture.ts';
import { type Host, Lab } from '../kernel/support/namespaces.ts';
import { startNginx } from '../kernel/support/nginx.ts';
import { eventually, finished } from '../kernel/support/processes.ts';
import { startTcpcrypt, type Tcpcrypt } from '../kernel/support/tcpcrypt.ts';

const LETTER = 'Dear Alice, the treasure lies under the old oak.\n'.repeat(12_000);
const bold = (text: string): string => (process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text);
const say = (text = ''): void => void process.stdout.write(`${text}\n`);
const step = (text: string): void => say(`\n${bold(`==> ${text}`)}`);

function insist(condition: unknown, otherwise: string): asserts condition {
  if (!condition) throw new Error(otherwise);
}

/** Fetches the letter slowly enough to look at the connection from both ends while it is open. */
async function fetchLetter(client: Host, url: string, look?: () => Promise<void>): Promise<void> {
  const curl = client.spawn('curl', [
    '-s',
    '--fail',
    '--http1.1',
    '--max-time',
    '30',
    '--limit-rate',
    look ? '400k' : '0',
    url,
  ]);
  const done = finished(curl);
  await look?.();
  const { code, stdout } = await done;
  insist(code === 0, `curl failed with exit code ${code}`);
  insist(stdout === LETTER, 'curl received something else than nginx sent');
  say(`    curl received the letter, ${stdout.length} bytes, every one right`);
}

/** Connections that were shown before: one in TIME-WAIT is still listed. */
const shown = new Set<string>();

/** The newest connection as each end's rewriter sees it. */
async function bothEnds(
  atClient: Tcpcrypt,
  atServer: Tcpcrypt,
): Promise<readonly [ConnectionInfo, ConnectionInfo]> {
  return eventually(() => {
    const mine = atClient.connections().find((each) => each.state === 'encrypted' && !shown.has(each.local));
    const theirs = atServer
      .connections()
      .find((each) => each.state === 'encrypted' && each.remote === mine?.local);
    if (mine === undefined || theirs === undefined) return undefined;
    shown.add(mine.local);
    return [mine, theirs] as const;
  }, 'an encrypted connection that both ends know: the hosts fell back to plain TCP');
}

function tell(mine: ConnectionInfo, theirs: ConnectionInfo): void {
  say(`    ${mine.local} -> ${mine.remote}`);
  say(`    handshake     ${mine.handshake}`);
  say(`    key exchange  ${mine.keyExchange}`);
  say(`    suite         ${mine.suite}`);
  say(`    session ID    ${mine.sessionId}  at the client`);
  say(`                  ${theirs.sessionId}  at the server`);
  insist(
    mine.sessionId && mine.sessionId === theirs.sessionId,
    'the session IDs differ: somebody sits in between',
  );
}

/** The MAC option in the experimental encoding: kind 253, ExID 0x544D. */
const isMac = ({ kind, body }: TcpOption): boolean => kind === 253 && body.readUInt16BE(0) === 0x544d;

/** The request as curl wrote it, and the bytes of it that were on the wire. */
function tellWire(captured: Captured, address: string): void {
  const request = `GET /letter.txt HTTP/1.1\r\nHost: ${address}\r\nUser-Agent: curl/`;
  // Before it goes INIT1, which begins the key exchange; the first segment with data and MAC is the request.
  const sent = captured.packets.find(
    ({ destinationPort, data, options }) => destinationPort === 80 && data.length > 0 && options.some(isMac),
  );
  insist(sent, 'the capture does not show the request');
  const line = (bytes: Buffer): string =>
    bytes
      .subarray(0, 40)
      .toString('latin1')
      .replace(/[^ -~]/g, '.');
  say(`    curl said     ${line(Buffer.from(request))}`);
  say(`    on the wire   ${line(sent.data)}`);
  say(`                  ${sent.data.toString('hex', 0, 40)}`);
  for (const secret of ['GET /letter', 'treasure', 'nginx'])
    insist(!captured.find(secret), `'${secret}' was on the wire in clear`);
  say(
    `    ${captured.dataPackets} packets with data captured; 'GET /letter', 'treasure', 'nginx' in none of them`,
  );
}

async function demo(): Promise<void> {
  insist(process.getuid?.() === 0, 'the demo needs root: it makes network namespaces');
  using lab = new Lab();

  step('Two hosts: network namespaces with a cable between them');
  const client = lab.host('client');
  const server = lab.host('server');
  lab.link(client, server);
  const address = server.address4();
  const url = `http://${address}/letter.txt`;
  say(`    client ${client.address4()}, server ${address}`);

  step('nginx on the server; tcpcrypt at both ends');
  const nginx = await startNginx(server, { 'letter.txt': LETTER });
  try {
    await using atClient = await startTcpcrypt(client);
    await using atServer = await startTcpcrypt(server);
    say('    ready; nginx and curl have no TLS and were told nothing');

    step(`curl ${url}`);
    const tap = await capture(server);
    await fetchLetter(client, url, async () => tell(...(await bothEnds(atClient, atServer))));

    step('What a listener on the wire saw of it');
    tellWire(await tap.stop(), address);

    step('The same again: the session is resumed, with no key exchange and no extra round trip');
    await fetchLetter(client, url, async () => {
      const [mine, theirs] = await bothEnds(atClient, atServer);
      tell(mine, theirs);
      insist(mine.handshake === 'cached', `the handshake was ${mine.handshake}, not cached`);
    });

    step('The server without tcpcrypt: nothing breaks');
    await atServer.stop();
    await fetchLetter(client, url);
    const [[reason] = []] = Object.entries(atClient.fallbacks());
    insist(reason, 'the connection to a plain server was not counted as a fallback');
    say(`    plain TCP, as without us; reason: ${reason}`);

    step('Counted at the client');
    for (const [outcome, handshake] of [
      ['encrypted', 'full'],
      ['encrypted', 'cached'],
      ['plain', 'none'],
    ] as const)
      say(`    ${outcome.padEnd(10)} ${handshake.padEnd(8)} ${atClient.outcomes(outcome, { handshake })}`);
  } finally {
    await nginx.stop();
  }
  say(`\n${bold('The demo went as it should.')}`);
}

try {
  await demo();
} catch (error) {
  process.stderr.write(`\nThe demo failed: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
