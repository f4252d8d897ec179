/** A CNI call as the plugin hands it over (cni/executable/src/plugin.cc), checked. The agent trusts no byte of it. */
import { HttpProblem } from '../../observability/http.ts';

export const COMMANDS = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS'] as const;
export type Command = (typeof COMMANDS)[number];

export interface CniRequest {
  readonly command: Command;
  readonly containerId: string;
  /** Path of the namespace; may be empty for DEL, GC and STATUS. */
  readonly netns: string;
  readonly interfaceName: string;
  /** From CNI_ARGS; empty where the runtime is not Kubernetes'. */
  readonly pod: { readonly namespace: string; readonly name: string; readonly uid: string };
  /** The network's name. */
  readonly network: string;
  /** What GC leaves: `cni.dev/valid-attachments`. Undefined where the runtime says nothing: then GC leaves all. */
  readonly validAttachments?: readonly { readonly containerId: string; readonly interfaceName: string }[];
}

const MAX_ATTACHMENTS = 10_000;
const identifier = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,252}$/;
const interfaceName = /^(?!\.\.?$)[^\s/:]{1,15}$/;
const podName = /^[a-z0-9][a-z0-9.-]{0,252}$/;
const podUid = /^[a-zA-Z0-9-]{1,64}$/;

/** Throws HttpProblem 400. */
export function parseRequest(text: string): CniRequest {
  const body = object('the request', parseJson(text));
  const command = COMMANDS.find((name) => name === body['command']);
  if (command === undefined)
    throw bad(`there is no command ${JSON.stringify(body['command'])?.slice(0, 40)}`);
  const config = object('config', body['config']);
  const attached = command === 'ADD' || command === 'DEL' || command === 'CHECK';
  const netns = string('netns', body['netns']);
  if (netns !== '' && (!netns.startsWith('/') || netns.length > 4096 || netns.includes('\0'))) {
    throw bad('netns is no absolute path');
  }
  return {
    command,
    netns,
    containerId: attached ? matching('containerId', body['containerId'], identifier) : '',
    interfaceName: attached ? matching('ifname', body['ifname'], interfaceName) : '',
    pod: parsePod(string('args', body['args'])),
    network: matching('name', config['name'], identifier),
    ...(command === 'GC' && attachmentsOf(config)),
  };
}

/** Keys that are missing or no names are empty: not a pod. */
function parsePod(args: string): CniRequest['pod'] {
  const pairs = new Map(args.split(';').map((pair) => splitOnce(pair)));
  const value = (key: string, pattern: RegExp): string => {
    const found = pairs.get(key) ?? '';
    return pattern.test(found) ? found : '';
  };
  return {
    namespace: value('K8S_POD_NAMESPACE', podName),
    name: value('K8S_POD_NAME', podName),
    uid: value('K8S_POD_UID', podUid),
  };
}

function splitOnce(pair: string): [string, string] {
  const at = pair.indexOf('=');
  return at < 0 ? [pair, ''] : [pair.slice(0, at), pair.slice(at + 1)];
}

function attachmentsOf(config: Record<string, unknown>) {
  // The specification's first print had the second name.
  const value = config['cni.dev/valid-attachments'] ?? config['cni.dev/attachments'];
  return value === undefined || value === null ? {} : { validAttachments: parseAttachments(value) };
}

function parseAttachments(value: unknown): NonNullable<CniRequest['validAttachments']> {
  if (!Array.isArray(value)) throw bad('cni.dev/valid-attachments is no list');
  if (value.length > MAX_ATTACHMENTS) throw bad(`cni.dev/valid-attachments has more than ${MAX_ATTACHMENTS}`);
  return value.map((entry) => {
    const { containerID, ifname } = object('an attachment', entry);
    return {
      containerId: matching('containerID', containerID, identifier),
      interfaceName: matching('ifname', ifname, interfaceName),
    };
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw bad('the request is no JSON');
  }
}

function object(what: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad(`${what} is no object`);
  return value as Record<string, unknown>;
}

function string(what: string, value: unknown): string {
  if (typeof value !== 'string') throw bad(`${what} is no string`);
  return value;
}

function matching(what: string, value: unknown, pattern: RegExp): string {
  const text = string(what, value);
  if (!pattern.test(text)) throw bad(`${what} is not what its name says`);
  return text;
}

function bad(message: string): HttpProblem {
  return new HttpProblem(400, message);
}
