/** The product as a user installs it, but for where the image comes from. */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import type { Cluster } from '../cluster.ts';
import { PRODUCT_IMAGE } from '../images.ts';
import type { RunOptions, RunResult } from '../machine.ts';
import { buildPrograms, requireProgram } from '../programs.ts';

export const RELEASE_NAMESPACE = 'tcpcrypt-system';
export const chart = join(import.meta.dirname, '../../../charts/tcpcrypt');
const [repository, tag] = PRODUCT_IMAGE.split(/:(?=[^:]*$)/);
/** There is no registry: the nodes have the image already. */
export const IMAGE_VALUES = [`image.repository=${repository}`, `image.tag=${tag}`, 'image.pullPolicy=Never'];

export function helm(
  cluster: Cluster,
  args: readonly string[],
  { version = 'helm', ...options }: RunOptions & { readonly version?: 'helm' | 'helm4' } = {},
): RunResult {
  return cluster.control.runInNetwork(requireProgram(version), helmArguments(cluster, args), {
    timeoutMs: 360_000,
    ...options,
  });
}

/** Starts it, for a test that does not let it come to its end. */
export const spawnHelm = (cluster: Cluster, args: readonly string[]): ChildProcess =>
  cluster.control.spawnInNetwork(requireProgram('helm'), helmArguments(cluster, args));

const helmArguments = (cluster: Cluster, args: readonly string[]): string[] => [
  `--kubeconfig=${cluster.kubeconfig}`,
  ...['--namespace', RELEASE_NAMESPACE],
  ...args,
];

/**
 * `helm install`, without a value but the image; returns when operator and node agents are ready. Where the chart is
 * installed already, nothing is made anew but what has changed.
 */
export async function installChart(cluster: Cluster, values: readonly string[] = []): Promise<void> {
  await buildPrograms(['helm']);
  const set = [...IMAGE_VALUES, ...values].flatMap((value) => ['--set', value]);
  const how = ['--create-namespace', '--wait', '--timeout', '5m'];
  const { status, stderr } = helm(cluster, ['upgrade', '--install', 'tcpcrypt', chart, ...how, ...set], {
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
