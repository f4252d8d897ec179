/** The cluster's addresses: IPv4 and IPv6 throughout. All of it is in namespaces, so several clusters may use them. */

export interface NodeAddresses {
  readonly v4: string;
  readonly v6: string;
  /** Of its device, as a real card's: the same after a reboot, or its neighbours would not find it for a while. */
  readonly mac: string;
  /** Its pods' networks. */
  readonly pods4: string;
  readonly pods6: string;
}

/** The machine of the control plane; it is the nodes' router, and what is outside the cluster to their pods. */
export const control = { v4: '10.88.0.1', v6: 'fd88::1' };
export const fabricPrefix = { v4: 24, v6: 64 };

export const nodes: Readonly<Record<NodeName, NodeAddresses>> = {
  node1: {
    ...{ v4: '10.88.0.11', v6: 'fd88::11', mac: '02:88:00:00:00:11' },
    ...{ pods4: '10.244.1.0/24', pods6: 'fd44:0:0:1::/64' },
  },
  node2: {
    ...{ v4: '10.88.0.12', v6: 'fd88::12', mac: '02:88:00:00:00:12' },
    ...{ pods4: '10.244.2.0/24', pods6: 'fd44:0:0:2::/64' },
  },
};
export type NodeName = 'node1' | 'node2';
export const nodeNames = ['node1', 'node2'] as const satisfies NodeName[];

export const podCidrs = ['10.244.0.0/16', 'fd44::/48'] as const;
export const serviceCidrs = ['10.96.0.0/16', 'fd96::/112'] as const;
export const apiServerServiceAddresses = ['10.96.0.1', 'fd96::1'] as const;
export const dnsAddresses = ['10.96.0.10', 'fd96::a'] as const;
