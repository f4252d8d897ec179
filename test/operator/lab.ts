/**
 * The chart's objects on a real API server, and the operator as real processes beside it: started from the configuration
 * that the chart rendered, with the rights of its service account and no others.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { type ControlPlane, type ControlPlaneOptions, startControlPlane } from '../cluster/control-plane.ts';
import { buildPrograms, hasGo, requireProgram } from '../cluster/programs.ts';
import { ended, eventually, type Finished, finished } from '../kernel/support/processes.ts';

export const skip = hasGo() ? false : 'needs Go: it builds kube-apiserver and helm';
export const NAMESPACE = 'tcpcrypt-system';
export const CHART = join(import.meta.dirname, '../../charts/tcpcrypt');
export const OPERATOR = join(import.meta.dirname, '../../bin/tcpcrypt-operator');
const SERVICE_ACCOUNT = {
  name: `system:serviceaccount:${NAMESPACE}:tcpcrypt-operator`,
  groups: ['system:serviceaccounts', `system:serviceaccounts:${NAMESPACE}`],
};
export const IMAGE = 'registry.example/tcpcrypt:1.0';
const PROCESS_START_MS = 60_000;
const COMMAND_MS = 60_000;

/** An object of the API, loosely typed: tests look at what they know to be there. */
// biome-ignore lint/suspicious/noExplicitAny: see above.
export type Json = any;

export interface Replica {
  readonly port: number;
  readonly identity: string;
  log(): string;
  metrics(): Promise<string>;
  stop(): Promise<void>;
  kill(): Promise<void>;
}

export interface Lab extends AsyncDisposable {
  readonly controlPlane: ControlPlane;
  readonly folder: string;
  /** As administrator; throws what the command said if it fails. */
  kubectl(...args: string[]): Promise<string>;
  /** `get -o json`. */
  get(...args: string[]): Promise<Json>;
  /** Creates objects, all or none by dry run; resolves to what the API server made of them. */
  create(object: Json, ...flags: string[]): Promise<Json>;
  helm(...args: string[]): Promise<string>;
  /** Starts a replica; `change` is merged into the chart's configuration. Resolves when it is ready. */
  operator(change?: Json): Promise<Replica>;
  /** Makes the API server call a replica. */
  callTo(replica: Replica): Promise<void>;
}

export interface LabOptions extends ControlPlaneOptions {
  readonly values?: readonly string[];
  readonly install?: boolean;
}

export async function startLab({ values = [], install = true, ...options }: LabOptions = {}): Promise<Lab> {
  await buildPrograms(['kubectl', 'helm']);
  const controlPlane = await startControlPlane({ users: [SERVICE_ACCOUNT], ...options });
  const folder = mkdtempSync(join(tmpdir(), 'tcpcrypt-operator-'));
  const replicas: ChildProcess[] = [];
  const { kubeconfig } = controlPlane;

  const command = async (program: string, args: readonly string[], input?: string): Promise<string> => {
    const env = { ...process.env, HOME: folder, KUBECONFIG: kubeconfig };
    const child = spawn(program, args, { env });
    child.stdin.end(input);
    const { code, stdout, stderr }: Finished = await finished(child, COMMAND_MS);
    if (code !== 0) throw new Error(`${args.slice(0, 4).join(' ')}: ${stderr.trim() || stdout.trim()}`);
    return stdout;
  };
  const kubectl = (...args: string[]) => command(requireProgram('kubectl'), args);
  const lab: Lab = {
    controlPlane,
    folder,
    kubectl,
    get: async (...args) => JSON.parse(await kubectl('get', '-o', 'json', ...args)),
    create: async (object, ...flags) => {
      const args = ['create', '-o', 'json', '-f', '-', ...flags];
      return JSON.parse(await command(requireProgram('kubectl'), args, JSON.stringify(object)));
    },
    helm: (...args) => command(requireProgram('helm'), args),
    operator: (change = {}) => startReplica(lab, replicas, change),
    callTo: async ({ port }) => {
      // There is no network of pods here: the Service stands for a name outside the cluster, this machine's.
      const spec = {
        type: 'ExternalName',
        externalName: 'localhost',
        selector: null,
        clusterIP: null,
        clusterIPs: null,
      };
      await kubectl('patch', 'service', 'tcpcrypt-webhook', '-n', NAMESPACE, '-p', JSON.stringify({ spec }));
      const op = { op: 'replace', path: '/webhooks/0/clientConfig/service/port', value: port };
      for (const kind of ['mutatingwebhookconfiguration', 'validatingwebhookconfiguration']) {
        await kubectl('patch', kind, 'tcpcrypt', '--type=json', '-p', JSON.stringify([op]));
      }
    },
    [Symbol.asyncDispose]: async () => {
      for (const child of replicas) await ended(child, 'SIGKILL');
      await controlPlane.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  if (install) await lab.helm(...installArguments(values));
  return lab;
}

/** `helm install` of the chart; there are no nodes, so nothing is waited for. */
export function installArguments(values: readonly string[] = []): string[] {
  const [repository, tag] = IMAGE.split(':') as [string, string];
  return [
    ...['install', 'tcpcrypt', CHART, '-n', NAMESPACE, '--create-namespace'],
    ...['--set', `image.repository=${repository}`, '--set', `image.tag=${tag}`],
    ...values.flatMap((value) => ['--set', value]),
  ];
}

async function startReplica(lab: Lab, replicas: ChildProcess[], change: Json): Promise<Replica> {
  const identity = `operator-${replicas.length}`;
  const [port, metricsPort] = (await freePorts(2)) as [number, number];
  const rendered = await lab.get('configmap', 'tcpcrypt-operator', '-n', NAMESPACE);
  const config = merge(
    parse(rendered.data['operator.yaml']),
    merge({ webhook: { port }, metricsPort }, change),
  );
  const file = join(lab.folder, `${identity}.yaml`);
  writeFileSync(file, stringify(config));
  const kubeconfig = lab.controlPlane.kubeconfigOf(SERVICE_ACCOUNT);
  const args = ['run', '--config', file, '--namespace', NAMESPACE, '--identity', identity];
  const child = spawn(OPERATOR, [...args, '--kubeconfig', kubeconfig, '--log-level', 'debug'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  replicas.push(child);
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => {
    log += chunk;
  });
  const answer = async (path: string) => await fetch(`http://127.0.0.1:${metricsPort}${path}`);
  await eventually(
    async () => {
      if (child.exitCode !== null) throw new Error(`the operator ended: ${log}`);
      return (await answer('/readyz').catch(() => undefined))?.status === 200;
    },
    `the operator ready; it said: ${log}`,
    PROCESS_START_MS,
  ).catch((error: Error) => {
    throw new Error(`${error.message}\n${log}`);
  });
  return {
    port,
    identity,
    log: () => log,
    metrics: async () => await (await answer('/metrics')).text(),
    stop: () => ended(child, 'SIGTERM', 20_000),
    kill: () => ended(child, 'SIGKILL'),
  };
}

/** `b` over `a`; lists are replaced. */
function merge(a: Json, b: Json): Json {
  if (!isObject(a) || !isObject(b)) return b;
  const merged: Json = { ...a };
  for (const [key, value] of Object.entries(b)) merged[key] = key in a ? merge(a[key], value) : value;
  return merged;
}

const isObject = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve) => {
          server.listen(0, '::', () => resolve((server.address() as { port: number }).port));
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** A pod's manifest. */
export function podManifest(name: string, namespace: string, spec: Json = {}, metadata: Json = {}): Json {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, ...metadata },
    spec: { containers: [{ name: 'web', image: 'web' }], ...spec },
  };
}
