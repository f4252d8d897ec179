/**
 * The plugin and the agent's verbs in real network namespaces: called by the CNI project's own cnitool, at the end of
 * a chain with its reference plugins. Both variants of iptables.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { Attachments } from '../../cni/agent/attachments.ts';
import { createPluginServer } from '../../cni/agent/plugin-server.ts';
import { type ApiPod, type Pod, readPod } from '../../cni/agent/pod.ts';
import { perform } from '../../cni/agent/verbs.ts';
import { build, executable } from '../../cni/executable/testing.ts';
import { verify } from '../../netfilter/namespace.ts';
import { listenOnPath } from '../../observability/unix-socket.ts';
import { buildPrograms, hasGo, programPath } from '../cluster/programs.ts';
import { temporaryFolder } from './support/files.ts';
import { type Host, Lab, requireRoot } from './support/namespaces.ts';
import { parseArguments } from '../../sidecar/runtime/arguments.ts';
import { sidecarRules } from '../../cni/agent/rule-options.ts';

const skip = hasGo() ? false : 'needs Go: it builds cnitool';

before(async () => {
  build();
  if (!skip) await buildPrograms(['cnitool', 'ptp', 'host-local']);
});

const injected = (args: readonly string[] = []): ApiPod => ({
  metadata: {
    ...{ namespace: 'shop', name: 'cart-0', uid: '0d7c3f9e-8a49-4c6b-9c55-6f2b8f0c1a11' },
    annotations: { 'tcpcrypt.io/status': 'injected' },
  },
  spec: { initContainers: [{ name: 'tcpcrypt', args: ['--state-dir=/run/tcpcrypt-state', ...args] }] },
});
const plainPod: ApiPod = { metadata: { namespace: 'shop', name: 'cart-0', uid: 'u' }, spec: {} };

interface Node extends AsyncDisposable {
  readonly attachments: Attachments;
  readonly leftAlone: string[];
  pod: Pod | undefined;
  /** Runs cnitool on a namespace. */
  cni(verb: string, host: Host, env?: Record<string, string>): { status: number; stdout: string; stderr: string };
  setSupported(value: boolean): void;
}

/** An agent that serves the plugin, a conflist that ends with our entry, and cnitool. */
async function startNode(
  options: { cniVersion?: string; pod?: ApiPod; entry?: object; agent?: boolean } = {},
): Promise<Node> {
  const { cniVersion = '1.0.0', pod = injected(), entry = {}, agent = true } = options;
  const folder = temporaryFolder();
  const agentSocket = join(folder.path, 'agent.sock');
  const bin = join(folder.path, 'bin');
  mkdirSync(bin);
  symlinkSync(executable, join(bin, 'tcpcrypt'));
  for (const name of ['ptp', 'host-local'] as const) symlinkSync(programPath(name), join(bin, name));
  const subnets = [[{ subnet: '10.98.7.0/24' }], [{ subnet: 'fd98:7::/64' }]];
  const ipam = { type: 'host-local', ranges: subnets, dataDir: join(folder.path, 'ipam') };
  const plugins = [{ type: 'ptp', ipam }, { type: 'tcpcrypt', agentSocket, ...entry }];
  const name = `tcpcrypt-test-${process.pid}`;
  writeFileSync(join(folder.path, '10-test.conflist'), JSON.stringify({ cniVersion, name, plugins }));

  let supported = true;
  const attachments = new Attachments(join(folder.path, 'attachments'));
  const leftAlone: string[] = [];
  const silent = () => {};
  const log = { warn: silent, debug: silent, info: silent, error: silent } as never;
  const server = createPluginServer(
    async (request) =>
      await perform(request, {
        ...{ attachments, log },
        findPod: async ({ namespace, name }) =>
          namespace === 'shop' && name === 'cart-0' ? node.pod : undefined,
        supported: () => supported,
        leftAlone: (_pod, reason) => leftAlone.push(reason),
      }),
    (error) => {
      throw error;
    },
  );
  if (agent) await listenOnPath(server, agentSocket, 0o600);
  const node: Node = {
    ...{ attachments, leftAlone, pod: readPod(pod) },
    setSupported(value) {
      supported = value;
    },
    cni(verb, host, env = {}) {
      const output = spawnSync(process.execPath, ['-e', RUN, programPath('cnitool'), verb, name, host.nsPath], {
        encoding: 'utf8',
        env: {
          ...process.env,
          CNI_PATH: bin,
          NETCONFPATH: folder.path,
          CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0',
          ...env,
        },
      });
      return { status: output.status ?? 128, stdout: output.stdout, stderr: output.stderr };
    },
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      folder[Symbol.dispose]();
    },
  };
  return node;
}
const RUN = '';
void execFileSync; void existsSync; void verify; void Lab; void requireRoot; void describe; void test;void parseArguments; void sidecarRules; void startNode; void plainPod
