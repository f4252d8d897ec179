/** Services, and what makes pods: their manifests. */
import { TOOLS_IMAGE } from '../images.ts';
import type { TestNamespace } from './pods.ts';

type Labels = Readonly<Record<string, string>>;

/** A Service of both families on port 80. */
export const service = (name: string, selector: Labels, spec: object = {}): object => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name },
  spec: { selector, ipFamilyPolicy: 'RequireDualStack', ports: [{ port: 80 }], ...spec },
});

/** Its addresses, as URLs have them: IPv4, then IPv6. */
export function serviceAddresses({ cluster, name: namespace }: TestNamespace, name: string): string[] {
  const found = cluster.get<{ spec: { clusterIPs: string[] } }>('-n', namespace, 'service', name);
  return found.spec.clusterIPs.map((ip) => (ip.includes(':') ? `[${ip}]` : ip));
}

const template = (name: string, command: readonly string[], spec: object, container: object): object => ({
  metadata: { labels: { app: name } },
  spec: {
    terminationGracePeriodSeconds: 0,
    containers: [{ name: 'main', image: TOOLS_IMAGE, imagePullPolicy: 'Never', command, ...container }],
    ...spec,
  },
});

export interface WorkloadOptions {
  readonly name: string;
  readonly command: readonly string[];
  /** More of the pod's spec. */
  readonly spec?: object;
  /** More of its container. */
  readonly container?: object;
}

export const deployment = (
  options: WorkloadOptions & { readonly replicas?: number; readonly strategy?: object },
): object => {
  const { name, command, spec = {}, container = {}, replicas = 1, strategy } = options;
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name },
    spec: {
      replicas,
      ...(strategy && { strategy }),
      selector: { matchLabels: { app: name } },
      template: template(name, command, spec, container),
    },
  };
};

/** It is tried once: what fails shows. */
export const job = ({ name, command, spec = {}, container = {} }: WorkloadOptions): object => ({
  apiVersion: 'batch/v1',
  kind: 'Job',
  metadata: { name },
  spec: {
    backoffLimit: 0,
    template: template(name, command, { restartPolicy: 'Never', ...spec }, container),
  },
});
