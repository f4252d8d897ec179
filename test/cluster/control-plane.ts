/**
 * An API server alone, for tests of what talks to one: etcd and kube-apiserver on free loopback ports, with nothing
 * that acts on what is written (no controllers, no nodes), so a test sees just what it does itself.
 *
 *     const controlPlane = await startControlPlane({ enableAdmissionPlugins: ['…'] });
 *     … controlPlane.kubeconfig …
 *     await controlPlane.stop();
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ended, eventually } from '../kernel/support/processes.ts';
import { ADMIN, type CommandLine, prepareApiServer, type User } from './api-server.ts';
import { buildPrograms } from './programs.ts';

/** From nothing, on a busy machine: the first start writes its own roles and priority levels. */
const START_TIMEOUT_MS = 120_000;

export interface ControlPlaneOptions {
  readonly enableAdmissionPlugins?: readonly string[];
  /** Default: ServiceAccount, since without controllers no namespace has a service account that pods could use. */
  readonly disableAdmissionPlugins?: readonly string[];
  /** Users besides the administrator, each with a kubeconfig of its own: for tests of access rules. */
  readonly users?: readonly User[];
  /** More flags for kube-apiserver. */
  readonly flags?: readonly string[];
}

export interface ControlPlane extends AsyncDisposable {
  /** Path of the administrator's kubeconfig. */
  readonly kubeconfig: string;
  readonly url: string;
  readonly token: string;
  /** PEM. */
  readonly certificateAuthority: string;
  /** Path of a kubeconfig of one of `users`. */
  kubeconfigOf(user: User): string;
  /** Ends both, and removes their files. */
  stop(): Promise<void>;
}

/** Starts one, building kube-apiserver first if need be; resolves when it is ready. */
export async function startControlPlane(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
  await buildPrograms(['kube-apiserver']);
  const folder = mkdtempSync(join(tmpdir(), 'tcpcrypt-control-plane-'));
  const [port, ...etcdPorts] = await freePorts(3);
  const prepared = prepareApiServer({
    folder,
    address: '127.0.0.1',
    port,
    etcdPorts: etcdPorts as [number, number],
    serviceCidrs: ['10.96.0.0/16'],
    serviceAddresses: ['10.96.0.1'],
    disableAdmissionPlugins: ['ServiceAccount'],
    ...options,
  });
  const children: ChildProcess[] = [];
  const killAll = (): void => {
    for (const child of children) child.kill('SIGKILL');
  };
  process.once('exit', killAll);
  const stop = async (): Promise<void> => {
    process.off('exit', killAll);
    for (const child of children.toReversed()) await ended(child, 'SIGTERM', 10_000);
    rmSync(folder, { recursive: true, force: true });
  };
  const token = prepared.token(ADMIN);
  const certificateAuthority = readFileSync(prepared.authority.pair.certificate, 'utf8');
  try {
    children.push(start(prepared.etcd, join(folder, 'etcd.log')));
    children.push(start(prepared.apiServer, join(folder, 'kube-apiserver.log')));
    await eventually(
      async () => {
        const dead = children.find((child) => child.exitCode !== null);
        if (dead) throw new Error(`${dead.spawnfile} ended: ${logTail(folder)}`);
        return isReady(port, token, certificateAuthority);
      },
      'the API server ready',
      START_TIMEOUT_MS,
    );
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    kubeconfig: prepared.kubeconfig(ADMIN),
    url: prepared.url,
    token,
    certificateAuthority,
    kubeconfigOf: prepared.kubeconfig,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function start({ program, args }: CommandLine, log: string): ChildProcess {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  child.stderr.pipe(createWriteStream(log));
  // A test that ends with an error need not wait for it.
  child.unref();
  return child;
}

function logTail(folder: string): string {
  return ['etcd.log', 'kube-apiserver.log']
    .map((name) => readFileSync(join(folder, name), 'utf8').slice(-1500))
    .join('\n');
}

function isReady(port: number, token: string, ca: string): Promise<boolean> {
  return new Promise((resolve) => {
    const headers = { authorization: `Bearer ${token}` };
    const asked = request(
      { host: '127.0.0.1', port, path: '/readyz', ca, headers, timeout: 2000 },
      (answer) => {
        answer.resume();
        resolve(answer.statusCode === 200);
      },
    );
    asked.once('timeout', () => asked.destroy());
    asked.once('error', () => resolve(false));
    asked.end();
  });
}

/** Ports that were free a moment ago, all different. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve, reject) => {
          server.once('error', reject);
          server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port));
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
