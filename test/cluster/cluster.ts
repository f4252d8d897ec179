/**
 * A cluster of two nodes on one host: three machines (`machine.ts`), one for the control plane and one for each
 * node, in a folder of the cluster's own. Nothing of it is in the host's network, and the folder alone tells what
 * there is to remove.
 *
 *     const cluster = await up();
 *     cluster.kubectl('get', 'nodes');
 *     await down();
 */
import { type ChildProcess, type SpawnOptions, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../kernel/support/processes.ts';
import * as addresses from './addresses.ts';
import { type NodeName, nodeNames } from './addresses.ts';
import { ADMIN, type ApiServer, prepareApiServer, type User } from './api-server.ts';
import { makeCgroup, removeCgroup } from './cgroups.ts';
import { corednsImage, pauseImage } from './images.ts';
import { Machine, type RunOptions, type RunResult, removeMountPoints } from './machine.ts';
import { layFabric, plugIn, routePods } from './network.ts';
import { forgetPods, type NodeOptions, nodeUser, proxyUser, startContainerd, startKubelet } from './node.ts';
import { buildPrograms, type ProgramName, requireProgram } from './programs.ts';
import { progress } from './progress.ts';

/** Each cluster has a folder here. */
const CLUSTERS = '/var/lib/tcpcrypt-clusters';
/** What it runs on. */
export const clusterPrograms: readonly ProgramName[] = [
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
  'kubectl',
  'coredns',
];
const controllerManager: User = { name: 'system:kube-controller-manager', groups: [] };
const scheduler: User = { name: 'system:kube-scheduler', groups: [] };
/** On a busy machine. */
const READY_TIMEOUT_MS = 300_000;

export class Cluster {
  readonly name: string;
  readonly folder: string;
  readonly control: Machine;
  readonly nodes: Readonly<Record<NodeName, Machine>>;

  /** `$TCPCRYPT_CLUSTER` or `default`: several clusters may run at once. It need not be there yet. */
  constructor(name = process.env['TCPCRYPT_CLUSTER'] || 'default') {
    this.name = name;
    this.folder = join(CLUSTERS, name);
    const machine = (label: string): Machine => new Machine(label, join(this.folder, label));
    this.control = machine('control');
    this.nodes = { node1: machine('node1'), node2: machine('node2') };
  }

  get exists(): boolean {
    return existsSync(this.folder);
  }

  get machines(): Machine[] {
    return [this.control, ...Object.values(this.nodes)];
  }

  get kubeconfig(): string {
    return join(this.folder, 'control-plane/admin.kubeconfig');
  }

  /** Written when `up` has come to its end. */
  get completeFile(): string {
    return join(this.folder, 'complete');
  }

  cgroup(node: NodeName): string {
    return `/tcpcrypt-${this.name}-${node}`;
  }

  /** Runs kubectl as the administrator; throws when it fails unless told otherwise. */
  kubectl(args: readonly string[], options: RunOptions = {}): RunResult {
    return this.control.runInNetwork(requireProgram('kubectl'), this.#kubectlArgs(args), options);
  }

  /** Starts kubectl, for `exec`, `port-forward` and whatever else lasts. */
  spawnKubectl(args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    return this.control.spawnInNetwork(requireProgram('kubectl'), this.#kubectlArgs(args), options);
  }

  /** An object, or a list, as JSON. */
  get<T = unknown>(...args: string[]): T {
    return JSON.parse(this.kubectl(['get', '-o', 'json', ...args]).stdout) as T;
  }

  /** Applies YAML, or objects. */
  apply(manifest: string | readonly object[]): void {
    const input =
      typeof manifest === 'string' ? manifest : manifest.map((each) => JSON.stringify(each)).join('\n---\n');
    this.kubectl(['apply', '-f', '-'], { input });
  }

  /** Imports an image archive into the nodes that do not have it; returns whether there was one. */
  loadImage(archive: string, nodes: readonly NodeName[] = nodeNames): boolean {
    const { mtimeMs, size } = statSync(archive);
    const id = `${mtimeMs} ${size}`;
    const note = (node: NodeName): string =>
      join(this.nodes[node].folder, `loaded-${archive.replaceAll('/', '_')}`);
    const lacking = nodes.filter(
      (node) => !existsSync(note(node)) || readFileSync(note(node), 'utf8') !== id,
    );
    for (const node of lacking) {
      this.nodes[node].run('ctr', ['-n', 'k8s.io', 'images', 'import', archive]);
      writeFileSync(note(node), id);
    }
    return lacking.length > 0;
  }

  #kubectlArgs(args: readonly string[]): string[] {
    return [`--kubeconfig=${this.kubeconfig}`, ...args];
  }
}

/** Starts a cluster, cleaning up first what a crash left of one; resolves when nodes and DNS are ready. */
export async function up(cluster = new Cluster()): Promise<Cluster> {
  if (process.getuid?.() !== 0)
    throw new Error('a cluster needs root: it makes namespaces, mounts and cgroups');
  if (isUp(cluster)) return cluster;
  await buildPrograms(clusterPrograms);
  const images = await Promise.all([pauseImage(), corednsImage()]);
  await down(cluster);
  mkdirSync(cluster.folder, { recursive: true, mode: 0o700 });
  await progress('three machines, and the cables between them', () => startMachines(cluster));
  const apiServer = prepareControlPlane(cluster);
  await progress('etcd and API server', () => startApiServer(cluster, apiServer));
  const options = nodeNames.map((name) => nodeOptions(cluster, name, apiServer));
  await progress('controller manager, scheduler, and two nodes', async () => {
    startControllers(cluster, apiServer);
    for (const node of options) startContainerd(node);
    for (const node of options) await containerdReady(node);
    for (const image of images) cluster.loadImage(image);
    for (const node of options) startKubelet(node);
    for (const name of nodeNames) await nodeReady(cluster, name);
  });
  await progress('DNS', async () => {
    cluster.kubectl(['apply', '-f', join(import.meta.dirname, 'manifests/coredns.yaml')]);
    const wait = ['rollout', 'status', '--timeout=4m', 'deployment/coredns', '-n', 'kube-system'];
    cluster.kubectl(wait, { timeoutMs: READY_TIMEOUT_MS });
  });
  writeFileSync(cluster.completeFile, '');
  return cluster;
}

/** Removes a cluster, or what is left of one; nothing happens when there is none. */
export async function down(cluster = new Cluster()): Promise<void> {
  if (!cluster.exists) return;
  await progress(`cluster ${cluster.name} removed`, async () => {
    for (const machine of cluster.machines.toReversed()) await machine.remove();
    for (const name of nodeNames) await removeCgroup(cluster.cgroup(name));
    rmSync(cluster.folder, { recursive: true, force: true });
    if (readdirSync(CLUSTERS).length > 0) return;
    rmSync(CLUSTERS, { recursive: true });
    removeMountPoints();
  });
}

/** What runs: a line for each machine and service. */
export function status(cluster = new Cluster()): string[] {
  if (!cluster.exists) return [`cluster ${cluster.name}: none`];
  return cluster.machines.flatMap((machine) => [
    `${machine.name}: ${machine.running ? `up, process ${machine.pid}` : 'down'}`,
    ...machine.services().map((name) => {
      const runs = machine.running && machine.serviceRuns(name);
      return `  ${name}: ${runs ? 'running' : 'not running'}; log: ${join(machine.folder, `${name}.log`)}`;
    }),
  ]);
}

/** It was started to the end, and every machine and service runs. */
export function isUp(cluster: Cluster): boolean {
  const runs = (machine: Machine): boolean =>
    machine.running && machine.services().every((name) => machine.serviceRuns(name));
  return existsSync(cluster.completeFile) && cluster.machines.every(runs);
}

/** As a power failure and the start after it: processes, namespaces and /run are gone, disks are not. */
export async function reboot(cluster: Cluster, name: NodeName): Promise<void> {
  const machine = cluster.nodes[name];
  await machine.stop();
  await removeCgroup(cluster.cgroup(name));
  forgetPods(machine);
  await machine.start();
  plugIn(cluster.control, machine, name);
  makeCgroup(cluster.cgroup(name));
  const node = nodeFiles(cluster, name);
  startContainerd(node);
  await containerdReady(node);
  startKubelet(node);
}

async function startMachines({ control, nodes }: Cluster): Promise<void> {
  await control.start();
  layFabric(control);
  for (const name of nodeNames) {
    await nodes[name].start();
    plugIn(control, nodes[name], name);
    routePods(control, name);
  }
}

function prepareControlPlane(cluster: Cluster): ApiServer {
  return prepareApiServer({
    folder: join(cluster.folder, 'control-plane'),
    address: addresses.control.v4,
    port: 6443,
    etcdPorts: [2379, 2380],
    serviceCidrs: addresses.serviceCidrs,
    serviceAddresses: addresses.apiServerServiceAddresses,
    users: [controllerManager, scheduler, proxyUser, ...nodeNames.map(nodeUser)],
    enableAdmissionPlugins: ['NodeRestriction'],
    // It has no kube-proxy: it finds the pods behind a webhook's or an aggregated API's Service itself.
    flags: ['--enable-aggregator-routing=true'],
  });
}

async function startApiServer(cluster: Cluster, prepared: ApiServer): Promise<void> {
  const { control } = cluster;
  const { etcd, apiServer } = prepared;
  prepared.kubeconfig(ADMIN);
  control.startService('etcd', etcd.program, etcd.args);
  control.startService('kube-apiserver', apiServer.program, apiServer.args);
  await eventually(
    () => {
      for (const name of ['etcd', 'kube-apiserver'])
        if (!control.serviceRuns(name)) throw new Error(`${name} ended: ${control.log(name)}`);
      return cluster.kubectl(['get', '--raw', '/readyz'], { allowFailure: true }).status === 0;
    },
    'the API server ready',
    READY_TIMEOUT_MS,
  );
}

function startControllers(
  { control }: Cluster,
  { authority, serviceAccountKey, kubeconfig }: ApiServer,
): void {
  const ca = authority.pair;
  control.startService('kube-controller-manager', requireProgram('kube-controller-manager'), [
    `--kubeconfig=${kubeconfig(controllerManager)}`,
    '--use-service-account-credentials=true',
    `--service-account-private-key-file=${serviceAccountKey}`,
    `--root-ca-file=${ca.certificate}`,
    `--cluster-signing-cert-file=${ca.certificate}`,
    `--cluster-signing-key-file=${ca.key}`,
    '--leader-elect=false',
    `--cluster-cidr=${addresses.podCidrs.join(',')}`,
    `--service-cluster-ip-range=${addresses.serviceCidrs.join(',')}`,
  ]);
  control.startService('kube-scheduler', requireProgram('kube-scheduler'), [
    `--kubeconfig=${kubeconfig(scheduler)}`,
    '--leader-elect=false',
  ]);
}

/** Writes a node's kubeconfigs beside its other files, and makes its cgroup. */
function nodeOptions(cluster: Cluster, name: NodeName, apiServer: ApiServer): NodeOptions {
  const node = nodeFiles(cluster, name);
  cpSync(apiServer.kubeconfig(nodeUser(name)), node.kubeletKubeconfig);
  cpSync(apiServer.kubeconfig(proxyUser), node.proxyKubeconfig);
  cpSync(apiServer.authority.pair.certificate, node.clientCa);
  makeCgroup(cluster.cgroup(name));
  return node;
}

function nodeFiles(cluster: Cluster, name: NodeName): NodeOptions {
  const machine = cluster.nodes[name];
  const file = (base: string): string => join(machine.folder, base);
  return {
    name,
    machine,
    cgroup: cluster.cgroup(name),
    kubeletKubeconfig: file('kubelet.kubeconfig'),
    proxyKubeconfig: file('kube-proxy.kubeconfig'),
    clientCa: file('ca.crt'),
  };
}

async function containerdReady({ machine }: NodeOptions): Promise<void> {
  await eventually(
    () => {
      if (!machine.serviceRuns('containerd'))
        throw new Error(`containerd ended: ${machine.log('containerd')}`);
      return machine.run('ctr', ['version'], { allowFailure: true }).status === 0;
    },
    `containerd on ${machine.name}`,
    60_000,
  );
}

async function nodeReady(cluster: Cluster, name: NodeName): Promise<void> {
  const machine = cluster.nodes[name];
  await eventually(
    () => {
      for (const service of ['kubelet', 'kube-proxy'])
        if (!machine.serviceRuns(service)) throw new Error(`${service} ended: ${machine.log(service)}`);
      const path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
      return cluster.kubectl(['get', 'node', name, '-o', path], { allowFailure: true }).stdout === 'True';
    },
    `${name} ready`,
    READY_TIMEOUT_MS,
  );
  const { pods4, pods6 } = addresses.nodes[name];
  const patch = JSON.stringify({ spec: { podCIDR: pods4, podCIDRs: [pods4, pods6] } });
  cluster.kubectl(['patch', 'node', name, '-p', patch]);
}

/** Whether this host can run a cluster: `undefined`, or why not. For tests that are skipped then. */
export function cannotRun(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root: it makes namespaces, mounts and cgroups';
  if (spawnSync('unshare', ['--mount', '--net', '--pid', '--fork', 'true']).status !== 0)
    return 'needs the capability SYS_ADMIN: namespaces cannot be made here';
  if (spawnSync('go', ['version']).status !== 0) return 'needs Go: it builds Kubernetes';
  return undefined;
}
