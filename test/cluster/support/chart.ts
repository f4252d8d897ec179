/** The product as a user installs it, but for where the image comes from. */
import { join } from 'node:path';
import type { Cluster } from '../cluster.ts';
import { PRODUCT_IMAGE } from '../images.ts';
import type { RunOptions, RunResult } from '../machine.ts';
import { buildPrograms, requireProgram } from '../programs.ts';

export const RELEASE_NAMESPACE = 'tcpcrypt-system';
const chart = join(import.meta.dirname, '../../../charts/tcpcrypt');
const [repository, tag] = PRODUCT_IMAGE.split(/:(?=[^:]*$)/);
/** There is no registry: the nodes have the image already. */
const IMAGE_VALUES = [`image.repository=${repository}`, `image.tag=${tag}`, 'image.pullPolicy=Never'];

export function helm(cluster: Cluster, args: readonly string[], options: RunOptions = {}): RunResult {
  const how = [`--kubeconfig=${cluster.kubeconfig}`, '--namespace', RELEASE_NAMESPACE];
  return cluster.control.runInNetwork(requireProgram('helm'), [...how, ...args], options);
}

/** `helm install`, without a value but the image; returns when operator and node agents are ready. */
export async function installChart(cluster: Cluster, values: readonly string[] = []): Promise<void> {
  await buildPrograms(['helm']);
  const set = [...IMAGE_VALUES, ...values].flatMap((value) => ['--set', value]);
  const how = ['--create-namespace', '--wait', '--timeout', '5m'];
  const { status, stderr } = helm(cluster, ['install', 'tcpcrypt', chart, ...how, ...set], {
    timeoutMs: 360_000,
    allowFailure: true,
  });
  if (status === 0) return;
  const look = (...args: string[]): string =>
    cluster.kubectl(['-n', RELEASE_NAMESPACE, ...args], { allowFailure: true }).stdout;
  const logs = ['deployment/tcpcrypt-operator', 'daemonset/tcpcrypt-node-agent'].map((each) =>
    look('logs', each, '--tail=20'),
  );
  throw new Error(
    [`helm install: ${stderr}`, look('get', 'pods', '-o', 'wide'), look('get', 'events'), ...logs].join('\n'),
  );
}
