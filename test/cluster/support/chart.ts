/** The product as a user installs it, but for where the image comes from. */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { eventually } from '../../kernel/support/processes.ts';
import type { Cluster } from '../cluster.ts';
import { PRODUCT_IMAGE, productImage } from '../images.ts';
import type { RunOptions, RunResult } from '../machine.ts';
import { buildPrograms, requireProgram } from '../programs.ts';
import { type Pod, pod, type TestNamespace } from './pods.ts';
import { useNamespace } from './shared.ts';

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
  const logs = [OPERATOR, AGENT].map((each) => look('logs', each, '--tail=20'));
  throw new Error(
    [`helm install: ${stderr}`, look('get', 'pods', '-o', 'wide'), look('get', 'events'), ...logs].join('\n'),
  );
}

/** A namespace of the shared cluster that has the chart: the first file to need it installs it, and it stays. */
export function useChart(
  name: string,
  prepare: (namespace: TestNamespace) => Promise<void>,
): ReturnType<typeof useNamespace> {
  return useNamespace(name, async (namespace) => {
    const { cluster } = namespace;
    const isNew = cluster.loadImage(await productImage());
    const wasThere = helm(cluster, ['status', 'tcpcrypt'], { allowFailure: true }).status === 0;
    await installChart(cluster);
    // An image of the same name: the release does not see that it is another.
    if (isNew && wasThere) restartProduct(cluster);
    await eventually(() => injects(namespace), 'a pod injected', 30_000);
    await prepare(namespace);
  });
}

const OPERATOR = 'deployment/tcpcrypt-operator';
const AGENT = 'daemonset/tcpcrypt-node-agent';

export function operatorPods(cluster: Cluster): readonly Pod[] {
  const selector = ['-l', 'app.kubernetes.io/component=operator'];
  return cluster.get<{ items: Pod[] }>('-n', RELEASE_NAMESPACE, 'pods', ...selector).items;
}

/** Returns when there are so many, and ready. */
export async function scaleOperator(cluster: Cluster, replicas: number): Promise<void> {
  cluster.kubectl(['-n', RELEASE_NAMESPACE, 'scale', OPERATOR, `--replicas=${replicas}`]);
  waitForParts(cluster, [OPERATOR]);
  await eventually(() => operatorPods(cluster).length === replicas, `${replicas} operators`, 60_000);
}

function restartProduct(cluster: Cluster): void {
  const parts = [OPERATOR, AGENT];
  cluster.kubectl(['-n', RELEASE_NAMESPACE, 'rollout', 'restart', ...parts]);
  waitForParts(cluster, parts);
}

/** Until they are what they should be. */
export function waitForParts(cluster: Cluster, parts: readonly string[] = [OPERATOR, AGENT]): void {
  for (const part of parts)
    cluster.kubectl(['-n', RELEASE_NAMESPACE, 'rollout', 'status', '--timeout=3m', part], {
      timeoutMs: 200_000,
    });
}

/** Whether the webhook puts the sidecar into a pod of the namespace. */
export function injects(namespace: TestNamespace): boolean {
  const input = JSON.stringify(pod({ name: 'not-stored', node: 'node1' }));
  const { stdout } = namespace.kubectl(['create', '--dry-run=server', '-o', 'json', '-f', '-'], { input });
  return JSON.parse(stdout).metadata.annotations?.['tcpcrypt.io/status'] === 'injected';
}
