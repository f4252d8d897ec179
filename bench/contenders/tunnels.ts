/** Userspace WireGuard: wireguard-go and boringtun, each a tunnel with one peer between the two namespaces. */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from '../../test/kernel/support/namespaces.ts';
import { ended } from '../../test/kernel/support/processes.ts';
import { type Bed, BIN, PORTS } from '../bed.ts';
import { type Part, type Row, type Running, Unavailable } from '../contender.ts';
import { MEASURES } from '../figures.ts';

/** Control sockets are files, and the two namespaces share the machine's: names differ, between runs as well. */
const SOCKETS = '/var/run/wireguard';
const sides = ['client', 'server'] as const;
type Side = (typeof sides)[number];
const deviceOf = (side: Side): string => `tcb${side[0]}${process.pid}`;

/** Removes the control sockets of this process's tunnels; a program that was killed leaves its own. */
export function removeTunnelSockets(): void {
  for (const side of sides) rmSync(join(SOCKETS, `${deviceOf(side)}.sock`), { force: true });
}

interface Tunnel {
  readonly part: Part;
  readonly about: string;
  readonly args: (device: string) => readonly string[];
}

const LISTEN_PORT = 51820;
/** What the outer headers take of the cable's MTU, as wg-quick reckons. */
const OVERHEAD_BYTES = 80;

const tunnels: readonly Tunnel[] = [
  { part: 'wireguard-go', about: 'wireguard-go', args: (device) => ['--foreground', device] },
  {
    part: 'boringtun',
    about: 'boringtun',
    args: (device) => ['--foreground', '--disable-drop-privileges', '--verbosity', 'error', device],
  },
];

/** One end: the program, its device with an address, and its key pair. */
async function startEnd(bed: Bed, host: Host, tunnel: Tunnel, side: Side) {
  const device = deviceOf(side);
  const answers = () => host.run('wg', ['show', device], { allowFailure: true }).status === 0;
  const child = await bed.program(host, join(BIN, tunnel.part), tunnel.args(device), answers);
  const privateKey = host.run('wg', ['genkey']).stdout.trim();
  const publicKey = host.run('wg', ['pubkey'], { input: privateKey }).stdout.trim();
  const address = side === 'client' ? '10.88.0.1' : '10.88.0.2';
  host.ip('address', 'add', `${address}/24`, 'dev', device);
  host.ip('link', 'set', device, 'mtu', String(bed.mtu - OVERHEAD_BYTES), 'up');
  return { host, device, child, privateKey, publicKey, address };
}

async function startTunnel(bed: Bed, tunnel: Tunnel): Promise<Running> {
  if (!existsSync('/dev/net/tun')) throw new Unavailable('/dev/net/tun is missing');
  const client = await startEnd(bed, bed.client, tunnel, 'client');
  const server = await startEnd(bed, bed.server, tunnel, 'server');
  for (const [own, peer] of [
    [client, server],
    [server, client],
  ] as const) {
    const keyFile = join(bed.folder, `${own.device}.key`);
    writeFileSync(keyFile, own.privateKey, { mode: 0o600 });
    own.host.run('wg', [
      ...['set', own.device, 'private-key', keyFile, 'listen-port', String(LISTEN_PORT)],
      ...['peer', peer.publicKey, 'allowed-ips', `${peer.address}/32`],
      ...['endpoint', `${peer.host.address4()}:${LISTEN_PORT}`],
    ]);
  }
  // Makes the tunnel's keys; the refusal is an answer.
  client.host.run('timeout', ['10', 'bash', '-c', `: </dev/tcp/${server.address}/9`], { allowFailure: true });
  return {
    to: (service) => ({ address: server.address, port: PORTS[service] }),
    pids: { client: [client.child.pid!], server: [server.child.pid!] },
    async [Symbol.asyncDispose]() {
      await Promise.all([client, server].map(({ child }) => ended(child, 'SIGTERM', 2000)));
      removeTunnelSockets();
    },
  };
}

export const tunnelRows: readonly Row[] = tunnels.map((tunnel) => ({
  name: tunnel.part,
  group: 'tunnel',
  about: `${tunnel.about}, one tunnel`,
  part: tunnel.part,
  // The tunnel's keys are made before; a connection costs none.
  measures: MEASURES.filter((measure) => measure !== 'cached'),
  start: (bed) => startTunnel(bed, tunnel),
}));
