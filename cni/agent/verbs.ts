/**
 * What each CNI verb does. The rule over all of them: a pod starts whatever went wrong here, unless it is Strict; and
 * what is undone is undone quietly. Where the pod is not known yet, the keeper (keeper.ts) does it a moment later.
 */
import { TcpcryptError } from '../../errors/catalogue.ts';
import { RULE_LAYOUT } from '../../netfilter/rules.ts';
import { errorFields, type Logger } from '../../observability/log.ts';
import type { Attachment, Attachments } from './attachments.ts';
import { openNamespace } from './namespace-handle.ts';
import type { Pod } from './pod.ts';
import type { PodRules } from './pod-rules.ts';
import type { CniRequest } from './request.ts';

/** The plugin's error codes; the specification leaves those from 100 on to it. */
export const CODE_RULES_INSTALL = 101;
export const CODE_RULES_DIFFER = 102;

/** What the plugin gets. `code` 0 is success. */
export interface CniAnswer {
  readonly code: number;
  readonly msg?: string;
  readonly details?: string;
}

export interface VerbParts {
  readonly attachments: Attachments;
  readonly podRules: PodRules;
  /** Undefined if nobody knows such a pod in time. */
  findPod(pod: CniRequest['pod']): Promise<Pod | undefined>;
  /** Whether this node's kernel takes the rules. */
  supported(): boolean;
  /** The pod runs without rules; `reason` is a short fixed word. */
  leftAlone(pod: Pod, reason: 'unsupported' | 'other_mesh' | 'arguments' | 'failed', message: string): void;
  readonly log: Logger;
}

/** The plugin's own deadline: a pod whose ADD takes longer may have started, so its rules may not be the first thing in it. */
const IN_TIME_MS = 1900;
const OK: CniAnswer = { code: 0 };

export async function perform(request: CniRequest, parts: VerbParts): Promise<CniAnswer> {
  switch (request.command) {
    case 'ADD':
      return await add(request, parts);
    case 'DEL':
      return await del(request, parts);
    case 'CHECK':
      return await check(request, parts);
    case 'GC':
      return await collectGarbage(request, parts);
    case 'STATUS':
      // That we answer is all: a pod can be added even where its connections will be plain.
      return OK;
  }
}

async function add(request: CniRequest, parts: VerbParts): Promise<CniAnswer> {
  const began = performance.now();
  const pod = await podOf(request, parts);
  if (pod?.sidecar === undefined) return OK;
  const { rules, problem } = pod.sidecar;
  if (!parts.supported()) return alone(parts, pod, 'unsupported', 'this node cannot do it');
  if (rules === undefined) return alone(parts, pod, 'arguments', problem);
  try {
    using namespace = openNamespace(request.netns);
    if (namespace === undefined)
      throw new TcpcryptError('ERR_TCPCRYPT_NAMESPACE', `${request.netns} is not there`);
    const before = parts.attachments.get(request.containerId, request.interfaceName);
    const inTime = (): boolean => performance.now() - began < IN_TIME_MS;
    const installed = await parts.podRules.install(namespace, rules, inTime);
    // Whatever is said of this pod's settings has been said: it has several networks, or a new sandbox.
    const known = parts.attachments.all().some(({ podUid }) => podUid === pod.uid);
    // Called again, it finds its own settings: the first record is the one to go back to.
    const again = before?.inode === namespace.inode;
    parts.attachments.set({
      ...describe(request, pod),
      inode: namespace.inode,
      rules: installed.rules,
      settings: again ? before.settings : installed.settings,
    });
    if (installed.refused.length > 0 && !known)
      parts.log.warn({ ...nameOf(pod), refused: installed.refused }, 'settings');
    return OK;
  } catch (error) {
    const reason = (error as TcpcryptError).code === 'ERR_TCPCRYPT_OTHER_MESH' ? 'other_mesh' : 'failed';
    return alone(parts, pod, reason, (error as Error).message);
  }
}

/** A Strict pod that could not be refused plain TCP does not start. */
function alone(
  parts: VerbParts,
  pod: Pod,
  reason: Parameters<VerbParts['leftAlone']>[1],
  message: string,
): CniAnswer {
  parts.leftAlone(pod, reason, message);
  if (pod.sidecar?.rules?.strict !== true) return OK;
  return { code: CODE_RULES_INSTALL, msg: 'the rules of a Strict pod could not be put in', details: message };
}

async function del(request: CniRequest, parts: VerbParts): Promise<CniAnswer> {
  const attachment = parts.attachments.get(request.containerId, request.interfaceName);
  if (attachment !== undefined) await undo(attachment, parts);
  return OK;
}

async function check(request: CniRequest, parts: VerbParts): Promise<CniAnswer> {
  const attachment = parts.attachments.get(request.containerId, request.interfaceName);
  if (attachment === undefined) return OK;
  using namespace = openNamespace(request.netns);
  if (namespace === undefined) return OK;
  const differences =
    namespace.inode === attachment.inode
      ? await parts.podRules.differences(namespace, attachment.rules)
      : ['the rules were put into another namespace'];
  if (differences.length === 0) return OK;
  return { code: CODE_RULES_DIFFER, msg: 'the rules differ', details: differences.join('\n') };
}

async function collectGarbage(request: CniRequest, parts: VerbParts): Promise<CniAnswer> {
  if (request.validAttachments === undefined) return OK;
  const valid = new Set(request.validAttachments.map((each) => `${each.containerId},${each.interfaceName}`));
  for (const attachment of parts.attachments.all()) {
    const { containerId, interfaceName, network } = attachment;
    if (network !== request.network || valid.has(`${containerId},${interfaceName}`)) continue;
    await undo(attachment, parts);
  }
  return OK;
}

/** Forgets an attachment, and takes its rules out where its namespace is still there. Never throws. */
async function undo(attachment: Attachment, { attachments, podRules, log }: VerbParts): Promise<void> {
  const { containerId, podNamespace, podName } = attachment;
  try {
    using namespace = openNamespace(attachment.netns);
    if (namespace?.inode === attachment.inode && !(await podRules.remove(namespace, attachment.settings))) {
      log.debug({ containerId }, 'its sockets still send: the rules end with the namespace');
    }
  } catch (error) {
    log.warn(
      { ...errorFields(error), containerId, podNamespace, podName },
      'the rules could not be taken out',
    );
  }
  attachments.delete(attachment);
}

async function podOf(request: CniRequest, { findPod, log }: VerbParts): Promise<Pod | undefined> {
  const { namespace, name } = request.pod;
  if (namespace === '' || name === '') return undefined;
  const pod = await findPod(request.pod);
  if (pod === undefined) log.warn({ namespace, name }, 'the pod is not known; its rules may come later');
  return pod;
}

function describe(request: CniRequest, pod: Pod) {
  return {
    containerId: request.containerId,
    interfaceName: request.interfaceName,
    network: request.network,
    netns: request.netns,
    podNamespace: pod.namespace,
    podName: pod.name,
    podUid: pod.uid,
    ruleLayout: RULE_LAYOUT,
  };
}

function nameOf({ namespace, name }: Pod) {
  return { namespace, name };
}
