/**
 * A node as its agent sees it: a real API server, the kubelet's and the runtime's folders, pods as network namespaces
 * with a real `tcpcrypt run` in them, in control groups named as the kubelet names them. The test plays kubelet.
 */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  AppsV1Api,
  CoreV1Api,
  KubeConfig,
  PatchStrategy,
  RbacAuthorizationV1Api,
  setHeaderOptions,
} from '@kubernetes/client-node';
import { parse } from 'yaml';
import { callPlugin, executable, type Finished } from '../../../cni/executable/testing.ts';
import { writeRendered } from '../../../kubernetes/rendered.ts';
import { type ControlPlane, startControlPlane } from '../../cluster/control-plane.ts';
import { type Host, Lab } from './namespaces.ts';
import { ended, eventually, saying } from './processes.ts';

const launcher = (name: string): string => new URL(`../../../bin/${name}`, import.meta.url).pathname;
const RIGHTS = new URL('../../../docs/node-agent.md', import.meta.url);
const AGENT = { name: 'system:serviceaccount:tcpcrypt-system:agent', groups: [] };
/** Those that the documentation lists and the chart gives. */
const CAPABILITIES = ['net_admin', 'net_raw', 'sys_admin', 'sys_ptrace', 'dac_override'];
export const NODE = 'node-1';
export const RELEASE = 'tcpcrypt-system';
export const DAEMONSET = 'agent';
/** Any hierarchy of version 1 will do, and the one of version 2 as well. */
const CGROUPS =
  ['/sys/fs/cgroup/pids', '/sys/fs/cgroup'].find((path) => existsSync(`${path}/cgroup.procs`)) ?? '';

export interface TestPod {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly host: Host;
}

export class AgentNode implements AsyncDisposable {
  readonly lab = new Lab();
  // A socket's path must be short.
  readonly folder = mkdtempSync('/dev/shm/tcn-');
  readonly conf = join(this.folder, 'net.d');
  readonly bin = join(this.folder, 'bin');
  readonly core: CoreV1Api;
  readonly apps: AppsV1Api;
  readonly rbac: RbacAuthorizationV1Api;
  readonly #controlPlane: ControlPlane;
  readonly #groups = `${CGROUPS}/tcpcrypt-test-${process.pid}`;
  readonly #groupsMade: string[] = [];
  readonly #sidecars: ChildProcess[] = [];
  #agent: ChildProcess | undefined;
  log = '';

  private constructor(controlPlane: ControlPlane) {
    this.#controlPlane = controlPlane;
    const config = new KubeConfig();
    config.loadFromFile(controlPlane.kubeconfig);
    this.core = config.makeApiClient(CoreV1Api);
    this.apps = config.makeApiClient(AppsV1Api);
    this.rbac = config.makeApiClient(RbacAuthorizationV1Api);
    mkdirSync(this.conf);
  }

  static async start(): Promise<AgentNode> {
    const controlPlane = await startControlPlane({ users: [AGENT] });
    const node = new AgentNode(controlPlane);
    const { core } = node;
    for (const name of [RELEASE, 'shop']) await core.createNamespace({ body: { metadata: { name } } });
    await core.createNode({ body: { metadata: { name: NODE } } });
    await node.#grantRights();
    await node.createDaemonSet();
    return node;
  }

  async createDaemonSet(): Promise<void> {
    const labels = { app: 'agent' };
    const template = { metadata: { labels }, spec: { containers: [{ name: 'agent', image: 'x' }] } };
    const body = { metadata: { name: DAEMONSET }, spec: { selector: { matchLabels: labels }, template } };
    await this.apps.createNamespacedDaemonSet({ namespace: RELEASE, body });
  }

  /** Those that the documentation lists, and no others. */
  async #grantRights(): Promise<void> {
    const { rbac } = this;
    const text = /```yaml\n([\s\S]*?)```/.exec(readFileSync(RIGHTS, 'utf8'))?.[1] ?? '';
    const { cluster, release } = parse(text) as { cluster: object[]; release: object[] };
    const subjects = [{ kind: 'User', name: AGENT.name, apiGroup: 'rbac.authorization.k8s.io' }];
    const metadata = { name: 'agent' };
    const apiGroup = 'rbac.authorization.k8s.io';
    await rbac.createClusterRole({ body: { metadata, rules: cluster as never } });
    await rbac.createClusterRoleBinding({
      body: { metadata, subjects, roleRef: { apiGroup, kind: 'ClusterRole', name: 'agent' } },
    });
    await rbac.createNamespacedRole({ namespace: RELEASE, body: { metadata, rules: release as never } });
    await this.bindRole();
  }

  /** Of the release's namespace. */
  async bindRole(): Promise<void> {
    const subjects = [{ kind: 'User', name: AGENT.name, apiGroup: 'rbac.authorization.k8s.io' }];
    const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'agent' };
    const body = { metadata: { name: DAEMONSET }, subjects, roleRef };
    await this.rbac.createNamespacedRoleBinding({ namespace: RELEASE, body });
  }

  async startAgent(...args: string[]): Promise<void> {
    const { folder } = this;
    const agent = spawn(
      'setpriv',
      [
        ...['--no-new-privs', '--bounding-set', `-all,${CAPABILITIES.map((name) => `+${name}`).join(',')}`],
        launcher('tcpcrypt-node-agent'),
        ...['run', '--node-name', NODE, '--namespace', RELEASE, '--daemonset', DAEMONSET],
        ...['--kubeconfig', this.#controlPlane.kubeconfigOf(AGENT), '--socket', join(folder, 'agent.sock')],
        ...['--state-dir', join(folder, 'run'), '--kubelet-dir', folder, '--executable', executable],
        ...['--cni-bin-dir', this.bin, '--cni-conf-dir', this.conf, '--metrics-listen', '127.0.0.1:19091'],
        ...['--keep-interval', '1', '--collect-interval', '0.5', '--log-level', 'debug', ...args],
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    this.#agent = agent;
    agent.stderr.on('data', (chunk) => {
      this.log = (this.log + chunk).slice(-20_000);
    });
    await eventually(async () => (await this.get('/readyz')) === 'ok\n', 'the agent ready', 30_000);
  }

  /** Of the agent's metrics port. */
  async get(path: string): Promise<string> {
    try {
      return await (await fetch(`http://127.0.0.1:19091${path}`)).text();
    } catch {
      return '';
    }
  }

  signalAgent(signal: NodeJS.Signals): void {
    this.#agent?.kill(signal);
  }

  async stopAgent(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.#agent === undefined) return null;
    await ended(this.#agent, signal, 20_000);
    return this.#agent.exitCode;
  }

  /** An injected pod, bound to this node; its namespace, and nothing in it. */
  async createPod(name: string, labels: Record<string, string> = {}, args: string[] = []): Promise<TestPod> {
    const namespace = 'shop';
    const annotations = { 'tcpcrypt.io/status': 'injected' };
    const sidecar = { name: 'tcpcrypt', image: 'x', restartPolicy: 'Always', args };
    const created = await this.core.createNamespacedPod({
      namespace,
      body: {
        metadata: { name, namespace, labels, annotations },
        spec: { nodeName: NODE, initContainers: [sidecar], containers: [{ name: 'app', image: 'x' }] },
      },
    });
    return { name, namespace, uid: created.metadata?.uid ?? randomUUID(), host: this.lab.host(name) };
  }

  /** Calls the plugin as the runtime would. */
  async cni(
    command: string,
    { name, namespace, uid, host }: TestPod,
  ): Promise<Finished & { result: unknown }> {
    const prevResult = { cniVersion: '1.0.0', interfaces: [] };
    const agentSocket = join(this.folder, 'agent.sock');
    const config = { cniVersion: '1.0.0', name: 'pods', type: 'tcpcrypt', agentSocket, prevResult };
    const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name};K8S_POD_UID=${uid}`;
    const env = { CNI_CONTAINERID: `c-${name}`, CNI_NETNS: host.nsPath, CNI_ARGS: args };
    return await callPlugin(command, config, env);
  }

  /** Runs the sidecar, in the pod's namespace, control group and volume, and says so to the API server. */
  async startSidecar({ name, namespace, uid, host }: TestPod, ...args: string[]): Promise<ChildProcess> {
    const volume = join(this.folder, 'pods', uid, 'volumes/kubernetes.io~empty-dir/tcpcrypt-state');
    mkdirSync(volume, { recursive: true });
    const short = join(this.folder, `s-${name}`);
    if (!existsSync(short)) symlinkSync(volume, short);
    const sidecar = host.spawn(
      launcher('tcpcrypt'),
      [
        ...['run', '--state-dir', short, '--control-socket', join(short, 'control.sock')],
        ...['--api-socket', 'none', '--metrics-listen', 'none', '--cluster-cidr', '10.77.0.0/16', ...args],
      ],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    );
    this.#sidecars.push(sidecar);
    const group = join(this.#groups, 'kubepods', `pod${uid}`);
    if (!existsSync(group)) {
      mkdirSync(group, { recursive: true });
      this.#groupsMade.push(group);
    }
    writeFileSync(join(group, 'cgroup.procs'), String(sidecar.pid));
    await saying(sidecar, 'ready');
    const running = {
      name: 'tcpcrypt',
      image: 'x',
      imageID: 'x',
      ready: true,
      restartCount: 0,
      started: true,
      state: { running: {} },
    };
    await this.core.patchNamespacedPodStatus(
      { namespace, name, body: { status: { phase: 'Running', initContainerStatuses: [running] } } },
      setHeaderOptions('Content-Type', PatchStrategy.StrategicMergePatch),
    );
    return sidecar;
  }

  /** As the operator does it; the first that matches a pod is its policy. */
  async render(policies: { podSelector: object; policy: object }[]): Promise<void> {
    const { name, labels, data } = writeRendered({ namespace: 'shop', policies });
    const body = { metadata: { name, labels }, data };
    const namespace = RELEASE;
    try {
      await this.core.replaceNamespacedConfigMap({ name, namespace, body });
    } catch {
      await this.core.createNamespacedConfigMap({ namespace, body });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopAgent().catch(() => {});
    for (const sidecar of this.#sidecars) await ended(sidecar, 'SIGKILL').catch(() => {});
    await this.lab[Symbol.asyncDispose]();
    await this.#controlPlane.stop();
    for (const group of [...this.#groupsMade, join(this.#groups, 'kubepods'), this.#groups]) {
      if (existsSync(group)) rmdirSync(group);
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}
