/** A node: containerd, kubelet and kube-proxy on a machine, with the reference CNI plugins. */
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dnsAddresses, type NodeName, nodes, podCidrs } from './addresses.ts';
import type { User } from './api-server.ts';
import { PAUSE_IMAGE } from './images.ts';
import type { Machine } from './machine.ts';
import { requireProgram } from './programs.ts';

/** Debian's folder of reference plugins. */
const CNI_PLUGINS = '/usr/lib/cni';
const CONTAINERD_SOCKET = '/run/containerd/containerd.sock';

export const nodeUser = (name: NodeName): User => ({ name: `system:node:${name}`, groups: ['system:nodes'] });
export const proxyUser: User = { name: 'system:kube-proxy', groups: [] };

export interface NodeOptions {
  readonly name: NodeName;
  readonly machine: Machine;
  readonly cgroup: string;
  readonly kubeletKubeconfig: string;
  readonly proxyKubeconfig: string;
  /** PEM file of the authority that signed the API server's client certificate. */
  readonly clientCa: string;
}

/** Starts containerd; images can be loaded then. */
export function startContainerd({ name, machine }: NodeOptions): void {
  installNetwork(machine, name);
  const config = machine.write('containerd.toml', containerdConfig);
  machine.startService('containerd', 'containerd', ['--config', config]);
}

/** Starts kubelet and kube-proxy, which register the node. */
export function startKubelet(options: NodeOptions): void {
  const { name, machine } = options;
  const { v4, v6 } = nodes[name];
  const json = (file: string, value: object): string => machine.write(file, JSON.stringify(value));
  // Names outside the cluster are nobody's to resolve here.
  machine.write('resolv.conf', '');
  machine.startService('kubelet', requireProgram('kubelet'), [
    `--config=${json('kubelet.json', kubeletConfig(options))}`,
    `--kubeconfig=${options.kubeletKubeconfig}`,
    `--node-ip=${v4},${v6}`,
    `--hostname-override=${name}`,
  ]);
  machine.startService('kube-proxy', requireProgram('kube-proxy'), [
    `--config=${json('kube-proxy.json', proxyConfig(options))}`,
  ]);
}

/** The primary CNI plugin, as an administrator sets it up, once: a bridge, and addresses of both families. */
function installNetwork(machine: Machine, name: NodeName): void {
  const bin = join(machine.folder, 'root/opt/cni/bin');
  const conf = join(machine.folder, 'root/etc/cni/net.d');
  if (existsSync(conf)) return;
  for (const folder of [bin, conf]) mkdirSync(folder, { recursive: true });
  for (const plugin of readdirSync(CNI_PLUGINS)) cpSync(join(CNI_PLUGINS, plugin), join(bin, plugin));
  writeFileSync(join(conf, '10-bridge.conflist'), JSON.stringify(conflist(name), undefined, 2));
}

/** Undoes what a reboot of a real node undoes: addresses are leased until then. */
export function forgetPods(machine: Machine): void {
  rmSync(join(machine.folder, 'root/var/lib/cni/networks'), { recursive: true, force: true });
}

const conflist = (name: NodeName): object => ({
  cniVersion: '1.0.0',
  name: 'pods',
  plugins: [
    {
      type: 'bridge',
      bridge: 'cni0',
      isGateway: true,
      hairpinMode: true,
      ipam: {
        type: 'host-local',
        ranges: [[{ subnet: nodes[name].pods4 }], [{ subnet: nodes[name].pods6 }]],
        routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
      },
    },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
});

const containerdConfig = `version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "${CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${PAUSE_IMAGE}"
  # Where root has no CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
`;

const kubeletConfig = ({ machine, name, cgroup, clientCa }: NodeOptions): object => ({
  apiVersion: 'kubelet.config.k8s.io/v1beta1',
  kind: 'KubeletConfiguration',
  address: nodes[name].v4,
  authentication: {
    anonymous: { enabled: false },
    webhook: { enabled: true },
    x509: { clientCAFile: clientCa },
  },
  authorization: { mode: 'Webhook' },
  cgroupDriver: 'cgroupfs',
  cgroupRoot: cgroup,
  enforceNodeAllocatable: [],
  oomScoreAdj: 0,
  failSwapOn: false,
  failCgroupV1: false,
  containerRuntimeEndpoint: `unix://${CONTAINERD_SOCKET}`,
  clusterDomain: 'cluster.local',
  clusterDNS: dnsAddresses,
  resolvConf: join(machine.folder, 'resolv.conf'),
  evictionHard: { 'memory.available': '50Mi', 'nodefs.available': '1%', 'imagefs.available': '1%' },
  // No image comes back once it is gone: there is no registry.
  imageGCHighThresholdPercent: 100,
  imageGCLowThresholdPercent: 99,
  // For pods that a test sets conntrack's settings of.
  allowedUnsafeSysctls: ['net.*'],
});

const proxyConfig = ({ name, proxyKubeconfig }: NodeOptions): object => ({
  apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
  kind: 'KubeProxyConfiguration',
  mode: 'iptables',
  hostnameOverride: name,
  clientConnection: { kubeconfig: proxyKubeconfig },
  clusterCIDR: podCidrs.join(','),
  detectLocalMode: 'ClusterCIDR',
  // The machine's limits of conntrack are not ours to change.
  conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
  oomScoreAdj: 0,
  metricsBindAddress: '127.0.0.1:10249',
});
