/**
 * The cables: a bridge in the control machine, a cable from it to each node, and routes between the pod networks.
 * What crosses from node to node passes that bridge, and can be captured there.
 */
import * as addresses from './addresses.ts';
import { type NodeName, nodeNames, nodes } from './addresses.ts';
import { type Machine, runCommand } from './machine.ts';

const BRIDGE = 'fabric';
/** A node's device towards the others. */
export const NODE_DEVICE = 'eth0';

function assign(machine: Machine, device: string, v4: string, v6: string): void {
  const { fabricPrefix } = addresses;
  machine.runInNetwork('ip', ['address', 'add', `${v4}/${fabricPrefix.v4}`, 'dev', device]);
  machine.runInNetwork('ip', ['address', 'add', `${v6}/${fabricPrefix.v6}`, 'dev', device, 'nodad']);
}

function forward(machine: Machine): void {
  for (const key of ['net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding'])
    machine.runInNetwork('sysctl', ['-q', '-w', `${key}=1`]);
}

/** The bridge, and the control machine as a router. */
export function layFabric(control: Machine): void {
  control.runInNetwork('ip', ['link', 'add', BRIDGE, 'type', 'bridge']);
  control.runInNetwork('ip', ['link', 'set', BRIDGE, 'up']);
  assign(control, BRIDGE, addresses.control.v4, addresses.control.v6);
  forward(control);
  // What crosses the fabric is nobody's to filter on the way.
  for (const family of ['iptables', 'ip6tables'])
    control.runInNetwork('sysctl', ['-q', '-w', `net.bridge.bridge-nf-call-${family}=0`]);
}

/** Plugs a node in. Its end is `eth0`, the bridge's end has the node's name. */
export function plugIn(control: Machine, node: Machine, name: NodeName): void {
  const { v4, v6, mac } = nodes[name];
  runCommand('ip', [
    ...['link', 'add', name, 'netns', String(control.pid), 'type', 'veth'],
    ...['peer', 'name', NODE_DEVICE, 'address', mac, 'netns', String(node.pid)],
  ]);
  control.runInNetwork('ip', ['link', 'set', name, 'master', BRIDGE, 'up']);
  node.runInNetwork('ip', ['link', 'set', NODE_DEVICE, 'up']);
  assign(node, NODE_DEVICE, v4, v6);
  forward(node);
  // A Service's pod may be on the client's own bridge: the answer has to pass by conntrack.
  for (const family of ['iptables', 'ip6tables'])
    node.runInNetwork('sysctl', ['-q', '-w', `net.bridge.bridge-nf-call-${family}=1`]);
  node.runInNetwork('ip', ['route', 'add', 'default', 'via', addresses.control.v4]);
  node.runInNetwork('ip', ['-6', 'route', 'add', 'default', 'via', addresses.control.v6]);
  for (const other of nodeNames) if (other !== name) routePods(node, other);
  masquerade(node);
}

/** The way to a node's pods. */
export function routePods(machine: Machine, to: NodeName): void {
  const { v4, v6, pods4, pods6 } = nodes[to];
  machine.runInNetwork('ip', ['route', 'add', pods4, 'via', v4]);
  machine.runInNetwork('ip', ['-6', 'route', 'add', pods6, 'via', v6]);
}

/** Pods have their own address to each other and to the nodes, and the node's to the world outside. */
function masquerade(node: Machine): void {
  for (const [i, iptables] of ['iptables', 'ip6tables'].entries()) {
    const pods = addresses.podCidrs[i]!;
    const rule = ['-s', pods, '!', '-d', pods, '!', '-o', 'cni0', '-j', 'MASQUERADE'];
    node.run(iptables, ['-w', '-t', 'nat', '-A', 'POSTROUTING', ...rule]);
  }
}
