/**
 * What the node's object says of tcpcrypt: a label for what its kernel can do, and a condition for whether and how the
 * agent works. Written when it changes, and tried again when the API server does not take it.
 */
import { type CoreV1Api, PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import { kubernetesError, within } from '../../kubernetes/client.ts';
import { NODE_CONDITION, NODE_LABEL } from '../../kubernetes/names.ts';
import type { Capabilities } from '../../netfilter/namespace.ts';
import { errorFields, type Logger } from '../../observability/log.ts';
import type { InstallerStatus } from './installer/installer.ts';

export interface NodeState {
  readonly supported: boolean;
  readonly condition: {
    readonly status: 'True' | 'False';
    readonly reason: 'Chained' | 'WithoutChaining' | 'KernelUnsupported';
    readonly message: string;
  };
}

const TIMEOUT_MS = 10_000;
const AGAIN_MS = 15_000;
const MAX_MESSAGE = 1000;

/** What was found out about the node at the start. */
export interface Findings {
  readonly able: Capabilities;
  /** Whether conntrack's settings can be changed. */
  readonly settings: boolean;
}

/** Pure: what to say. `installer` is undefined where the agent is not to install anything. */
export function nodeState({ able, settings }: Findings, installer: InstallerStatus | undefined): NodeState {
  if (able.variant === undefined) {
    const lacks = [...(able.nfqueue ? [] : ['NFQUEUE']), ...(able.connmark ? [] : ['CONNMARK'])];
    const what = lacks.length === 0 ? 'the rules' : lacks.join(' and ');
    const message = `The kernel does not take ${what}; pods here run plain: ${able.reasons.join('; ')}`;
    return state(false, 'KernelUnsupported', message);
  }
  const lacking = settings
    ? ''
    : ', without the settings of conntrack (read-only here: long silences may end connections)';
  const how = `Rules by iptables-${able.variant}, IPv${able.families.join(' and IPv')}${lacking}`;
  if (installer?.chained) return state(true, 'Chained', `${how}, by the CNI plugin.`);
  const why = installer === undefined ? 'the plugin is turned off' : installer.reason;
  return state(true, 'WithoutChaining', `${how}, after a pod's start: ${why}.`);
}

function state(supported: boolean, reason: NodeState['condition']['reason'], message: string): NodeState {
  const status = supported ? 'True' : 'False';
  return { supported, condition: { status, reason, message: message.slice(0, MAX_MESSAGE) } };
}

export class NodeWriter {
  readonly #core: CoreV1Api;
  readonly #node: string;
  readonly #log: Logger;
  #wanted: NodeState | undefined;
  #written = '';
  #writing: Promise<void> | undefined;
  /** Of the last change of the status, True or False. */
  #since = { status: '', at: '' };
  #timer: NodeJS.Timeout | undefined;

  constructor(core: CoreV1Api, node: string, log: Logger) {
    this.#core = core;
    this.#node = node;
    this.#log = log;
  }

  say(wanted: NodeState): void {
    this.#wanted = wanted;
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
    });
  }

  /** Takes back what was said: the agent will not come back. Never rejects. */
  async retract(): Promise<void> {
    this.stop();
    // What is under way would put it back.
    await this.#writing;
    try {
      await this.#patch(null, { type: NODE_CONDITION, $patch: 'delete' });
    } catch (error) {
      this.#log.warn(errorFields(kubernetesError(error)), "the node's label and condition stay");
    }
  }

  stop(): void {
    this.#wanted = undefined;
    clearTimeout(this.#timer);
  }

  /** Until what is wanted is written, or was refused. Never rejects. */
  async #write(): Promise<void> {
    for (;;) {
      if (this.#wanted === undefined) return;
      const { supported, condition } = this.#wanted;
      const text = JSON.stringify(this.#wanted);
      if (text === this.#written) return;
      try {
        const now = new Date().toISOString();
        if (this.#since.status !== condition.status) this.#since = { status: condition.status, at: now };
        const times = { lastHeartbeatTime: now, lastTransitionTime: this.#since.at };
        const said = { type: NODE_CONDITION, ...condition, ...times };
        await this.#patch(supported ? 'supported' : 'unsupported', said);
        this.#written = text;
        this.#log.info({ ...condition }, "the node's condition is set");
      } catch (error) {
        const message = "the node's condition could not be set; it is tried again";
        this.#log.warn(errorFields(kubernetesError(error)), message);
        const again = (): void => void (this.#wanted && this.say(this.#wanted));
        this.#timer = setTimeout(again, AGAIN_MS).unref();
        return;
      }
    }
  }

  /** Strategic merge: conditions are merged by their type, so the kubelet's stay. */
  async #patch(label: string | null, condition: object): Promise<void> {
    const options = setHeaderOptions('Content-Type', PatchStrategy.StrategicMergePatch);
    const name = this.#node;
    const labels = { metadata: { labels: { [NODE_LABEL]: label } } };
    await within(TIMEOUT_MS, this.#core.patchNode({ name, body: labels }, options));
    const status = { status: { conditions: [condition] } };
    await within(TIMEOUT_MS, this.#core.patchNodeStatus({ name, body: status }, options));
  }
}
