/**
 * A node as far as CNI goes, in namespaces: the agent's verbs on a socket, a conflist that ends with our entry, and
 * cnitool as the runtime, with the CNI project's reference plugins.
 */

import { once } from 'node:events';
import { globSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Attachments } from '../../../cni/agent/attachments.ts';
import { createPluginServer } from '../../../cni/agent/plugin-server.ts';
import { type ApiPod, type Pod, readPod } from '../../../cni/agent/pod.ts';
import { PodRules } from '../../../cni/agent/pod-rules.ts';
import { perform, type VerbParts } from '../../../cni/agent/verbs.ts';
import { callPlugin, executable, type Finished } from '../../../cni/executable/testing.ts';
import type { Variant } from '../../../netfilter/iptables.ts';
import type { Logger } from '../../../observability/log.ts';
import { listenOnPath } from '../../../observability/unix-socket.ts';
import { programPath } from '../../cluster/programs.ts';
import { temporaryFolder } from './files.ts';
import { type Host, Lab } from './namespaces.ts';

export const injected = (...args: string[]): ApiPod => ({
  metadata: {
    ...{ namespace: 'shop', name: 'cart-0', uid: '0d7c3f9e-8a49-4c6b-9c55-6f2b8f0c1a11' },
    annotations: { 'tcpcrypt.io/status': 'injected' },
  },
  spec: { initContainers: [{ name: 'tcpcrypt', args: ['--state-dir=/run/tcpcrypt-state', ...args] }] },
});
export const uninjected: ApiPod = { metadata: { namespace: 'shop', name: 'cart-0', uid: 'u' }, spec: {} };

export interface CniNodeOptions {
  readonly cniVersion?: string;
  readonly pod?: ApiPod;
  /** More for our entry in the conflist. */
  readonly entry?: object;
  readonly variant?: Variant;
}

const silent = (): void => {};
const log = { warn: silent, debug: silent, info: silent, error: silent } as unknown as Logger;

export class CniNode implements AsyncDisposable {
  readonly lab = new Lab();
  /** Where the node's ends of the pods' cables are. */
  readonly host = this.lab.host('node');
  readonly attachments: Attachments;
  /** Why pods run without rules. */
  readonly leftAlone: string[] = [];
  readonly network = `tcpcrypt-test-${process.pid}`;
  pod: Pod | undefined;
  supported = true;
  readonly parts: VerbParts;
  readonly #folder = temporaryFolder();
  readonly #cniVersion: string;
  readonly #server;

  constructor({ cniVersion = '1.0.0', pod = injected(), entry = {}, variant }: CniNodeOptions = {}) {
    this.#cniVersion = cniVersion;
    const at = (name: string): string => join(this.#folder.path, name);
    mkdirSync(at('bin'));
    symlinkSync(executable, at('bin/tcpcrypt'));
    for (const name of ['ptp', 'host-local'] as const) {
      // Debian's know CNI 1.0 and older.
      const plugin = cniVersion === '1.1.0' ? programPath(name) : `/usr/lib/cni/${name}`;
      symlinkSync(plugin, at(`bin/${name}`));
    }
    const ranges = [[{ subnet: '10.98.7.0/24' }], [{ subnet: 'fd98:7::/64' }]];
    const ipam = { type: 'host-local', ranges, dataDir: at('ipam') };
    const plugins = [
      { type: 'ptp', ipam },
      { type: 'tcpcrypt', agentSocket: at('agent.sock'), ...entry },
    ];
    writeFileSync(at('10-test.conflist'), JSON.stringify({ cniVersion, name: this.network, plugins }));
    this.pod = readPod(pod);
    this.attachments = new Attachments(at('attachments'));
    this.parts = {
      ...{ log, attachments: this.attachments, podRules: new PodRules(variant) },
      findPod: async () => this.pod,
      supported: () => this.supported,
      leftAlone: (_pod: Pod, reason: string) => {
        this.leftAlone.push(reason);
      },
    };
    this.#server = createPluginServer(
      (request) => perform(request, this.parts),
      (error) => {
        throw error;
      },
    );
  }

  async startAgent(): Promise<this> {
    await listenOnPath(this.#server, join(this.#folder.path, 'agent.sock'), 0o600);
    return this;
  }

  stopAgent(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** As a runtime does that lost its state. */
  forgetAttachments(): void {
    for (const file of globSync(`/var/lib/cni/results/${this.network}-*`)) rmSync(file);
  }

  /** Runs cnitool on a namespace; `result` is what it printed, where that is JSON. */
  async cni(verb: string, pod: Host, env: Readonly<Record<string, string>> = {}) {
    const child = this.host.spawn(programPath('cnitool'), [verb, this.network, pod.nsPath], {
      env: {
        ...process.env,
        CNI_PATH: join(this.#folder.path, 'bin'),
        NETCONFPATH: this.#folder.path,
        CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0',
        ...env,
      },
    });
    let stdout = '';
    let stderr = '';
    child.stdout?.on('data', (text) => {
      stdout += text;
    });
    child.stderr?.on('data', (text) => {
      stderr += text;
    });
    const [status] = await once(child, 'close');
    return { status: status as number, stdout, stderr };
  }

  /** Calls our plugin alone, as a runtime that names more than cnitool does; `pod` is attached already. */
  async plugin(command: string, pod: Host, more: object): Promise<Finished> {
    const attached = this.attachments.all().find(({ netns }) => netns === pod.nsPath);
    if (attached === undefined) throw new Error(`${pod.name} is not attached`);
    const agentSocket = join(this.#folder.path, 'agent.sock');
    const config = {
      cniVersion: this.#cniVersion,
      name: this.network,
      type: 'tcpcrypt',
      agentSocket,
      ...more,
    };
    return await callPlugin(command, config, {
      CNI_CONTAINERID: attached.containerId,
      CNI_IFNAME: attached.interfaceName,
      CNI_NETNS: pod.nsPath,
      CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0',
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stopAgent();
    this.forgetAttachments();
    await this.lab[Symbol.asyncDispose]();
    this.#folder[Symbol.dispose]();
  }
}
