/**
 * The packet-filter rules as data: what each table's chains hold for given options. Pure; `namespace.ts` brings them
 * into a namespace. `docs/rules.md` explains them row by row.
 *
 * Invariants: a rule's text is byte for byte what `iptables-save` prints for it, so that verifying is comparing text;
 * every chain of ours is named TCPCRYPT_…; a packet that gets through our chains returns to the built-in chain.
 */
import { TcpcryptError } from '../errors/catalogue.ts';
import { parseCidr } from './cidr.ts';
import {
  ASKED_BEFORE,
  ConnectionState,
  hexMark,
  MAX_WORKERS,
  type MarkLayout,
  markLayout,
  markOf,
  QUEUED_WITHOUT_STATE,
} from './marks.ts';

/** Raised when the rules' text changes. A sidecar states it; nobody mends a pod's rules to another layout. */
export const RULE_LAYOUT = 3;

export type Family = 4 | 6;
export type Table = 'raw' | 'mangle';
export const CHAIN_PREFIX = 'TCPCRYPT_';

/** Queue numbers first … first + count - 1, a worker each. */
export interface QueueRange {
  readonly first: number;
  readonly count: number;
}

/** The queues of so many workers, as `tcpcrypt run` numbers them: three ranges in a row. */
export function queueRanges(first: number, workers: number) {
  const range = (at: number): QueueRange => ({ first: first + at * workers, count: workers });
  return { setupQueues: range(0), dataQueues: range(1), superSegmentQueues: range(2) };
}

export interface PortRange {
  readonly port: number;
  /** Inclusive; default `port`. */
  readonly endPort?: number;
}

export interface RuleOptions {
  /** Bits of marks that are ours; default 0x7e000000. */
  readonly mask?: number;
  /** Packet mark of what the rewriter sends; default 0x01000000. */
  readonly injectMark?: number;
  /** SYN and SYN-ACK. All three ranges have the same count: a worker serves one queue of each kind. */
  readonly setupQueues: QueueRange;
  /** Encrypted connections of the per-segment kind. */
  readonly dataQueues: QueueRange;
  /** Encrypted connections of the super-segment kind. */
  readonly superSegmentQueues: QueueRange;
  /** New connections wait for the rewriter instead of going plain without it. */
  readonly strict: boolean;
  /**
   * The rules are older than any socket of the namespace. Then a packet without state belongs to a connection whose
   * conntrack entry was lost, and waits for the rewriter; else it may also belong to one that was there before us, and
   * passes when nobody listens.
   */
  readonly dataWhenNoState: boolean;
  /** TCP option kinds that are ours; default 253. With the legacy encoding also 69 and 70. */
  readonly optionKinds?: readonly number[];
  /** Connections to these ports, and from these when the connection is not new, are not touched. */
  readonly excludePorts?: readonly PortRange[];
  /** Nor those with a peer in here. */
  readonly excludeCidrs?: readonly string[];
  /** Do not track protocols other than TCP and ICMP. Only where nothing in the namespace needs it: `mayUntrack`. */
  readonly untrackOthers?: boolean;
  readonly families?: readonly Family[];
}

export interface Chain {
  readonly name: string;
  /** Without `-A NAME`. */
  readonly rules: readonly string[];
}

export interface TableRules {
  readonly table: Table;
  readonly chains: readonly Chain[];
  /** Put first in the built-in chain. */
  readonly jumps: readonly { readonly from: string; readonly to: string }[];
}

/** ICMP errors that can quote a TCP segment. */
const ICMP_ERRORS = {
  4: [3, 4, 11, 12].map((type) => `-p icmp -m icmp --icmp-type ${type}`),
  6: [1, 2, 3, 4].map((type) => `-p ipv6-icmp -m icmp6 --icmpv6-type ${type}`),
} as const;

/** `multiport` takes fifteen ports; a range counts for two. */
const MULTIPORT_SLOTS = 15;

/** The tables of one family, in the order in which they are put in. Throws ERR_TCPCRYPT_USAGE. */
export function buildRules(family: Family, options: RuleOptions): readonly TableRules[] {
  check(options);
  const layout = markLayout(options.mask, options.injectMark);
  return [rawTable(family, options, layout), mangleTable(family, options, layout)];
}

function rawTable(family: Family, options: RuleOptions, layout: MarkLayout): TableRules {
  const all = layout.mask | layout.injectMark;
  const rules = [`! -i lo -m mark ! --mark 0x0/${hexMark(all)} -j MARK --set-xmark 0x0/${hexMark(all)}`];
  const chains: Chain[] = [{ name: 'TCPCRYPT_RAW_IN', rules }];
  const jumps = [{ from: 'PREROUTING', to: 'TCPCRYPT_RAW_IN' }];
  if (options.untrackOthers) {
    const icmp = family === 4 ? 'icmp' : 'ipv6-icmp';
    rules.push('-g TCPCRYPT_UNTRACK');
    chains.push(
      { name: 'TCPCRYPT_RAW_OUT', rules: ['-g TCPCRYPT_UNTRACK'] },
      // ICMP stays tracked: an error finds the connection it quotes, and with it the connection's mark.
      {
        name: 'TCPCRYPT_UNTRACK',
        rules: ['-p tcp -j RETURN', `-p ${icmp} -j RETURN`, '-j CT --notrack'],
      },
    );
    jumps.push({ from: 'OUTPUT', to: 'TCPCRYPT_RAW_OUT' });
  }
  return { table: 'raw', chains, jumps };
}

function mangleTable(family: Family, options: RuleOptions, layout: MarkLayout): TableRules {
  const mask = hexMark(layout.mask);
  const inject = `${hexMark(layout.injectMark)}/${hexMark(layout.injectMark)}`;
  const icmp = family === 4 ? 'icmp' : 'ipv6-icmp';
  const plain = plainRule(options, layout);
  const cidrs = (options.excludeCidrs ?? []).map(parseCidr).filter((cidr) => cidr.family === family);
  const chains: Chain[] = [
    {
      name: 'TCPCRYPT_IN',
      rules: [
        plain,
        `-m mark --mark ${inject} -g TCPCRYPT_OURS`,
        `! -i lo -p tcp -m connmark ! --mark ${stateMark(layout, ConnectionState.none)} -g TCPCRYPT_STATE`,
        '! -i lo -p tcp -m addrtype --dst-type LOCAL -g TCPCRYPT_NEW_IN',
        // Over loopback as well: the kernel tells itself that a packet is too big.
        `-p ${icmp} -m addrtype --dst-type LOCAL -g TCPCRYPT_ICMP`,
      ],
    },
    {
      name: 'TCPCRYPT_OUT',
      rules: [
        // What the rewriter injects for its own kernel keeps its mark until it has come in.
        '-o lo -j RETURN',
        plain,
        `-m mark --mark ${inject} -g TCPCRYPT_OURS`,
        // Without the inject mark these are not a verdict's: somebody restored a connmark, say.
        `-m mark ! --mark 0x0/${mask} -j MARK --set-xmark 0x0/${mask}`,
        `-p tcp -m connmark ! --mark ${stateMark(layout, ConnectionState.none)} -g TCPCRYPT_STATE`,
        '-p tcp -m addrtype --src-type LOCAL -g TCPCRYPT_NEW_OUT',
      ],
    },
    {
      name: 'TCPCRYPT_OURS',
      rules: [
        `-m mark ! --mark 0x0/${mask} -j CONNMARK --save-mark --nfmask ${mask} --ctmask ${mask}`,
        `-j MARK --set-xmark 0x0/${hexMark(layout.mask | layout.injectMark)}`,
      ],
    },
    { name: 'TCPCRYPT_STATE', rules: stateRules(options, layout) },
    {
      name: 'TCPCRYPT_NEW_IN',
      rules: [...cidrs.map(({ text }) => `-s ${text} -j RETURN`), '-g TCPCRYPT_NEW'],
    },
    {
      name: 'TCPCRYPT_NEW_OUT',
      rules: [...cidrs.map(({ text }) => `-d ${text} -j RETURN`), '-g TCPCRYPT_NEW'],
    },
    { name: 'TCPCRYPT_NEW', rules: newRules(options, layout) },
    { name: 'TCPCRYPT_SETUP', rules: setupRules(options, layout) },
    {
      // A SYN or SYN-ACK of a connection that was asked about before.
      name: 'TCPCRYPT_AGAIN',
      rules: [setPacketState(layout, ASKED_BEFORE), '-g TCPCRYPT_SETUP'],
    },
    {
      name: 'TCPCRYPT_ASKED',
      rules: [
        setPacketState(layout, QUEUED_WITHOUT_STATE),
        `-j NFQUEUE ${anyOf(options.dataQueues)}${bypassOf(options)}`,
      ],
    },
    { name: 'TCPCRYPT_OPTION', rules: optionRules(options, layout) },
    { name: 'TCPCRYPT_ICMP', rules: icmpRules(family, layout) },
    {
      name: 'TCPCRYPT_ICMP_ERROR',
      rules: [
        setPacketState(layout, QUEUED_WITHOUT_STATE),
        ...[ConnectionState.tcpcrypt, ConnectionState.superSegment].map(
          (state) =>
            `-m connmark --mark ${stateMark(layout, state)} ${setPacketState(layout, ConnectionState.none)}`,
        ),
        ...byWorker(options.dataQueues, layout, ' --queue-bypass'),
      ],
    },
  ];
  const jumps = [
    { from: 'PREROUTING', to: 'TCPCRYPT_IN' },
    { from: 'POSTROUTING', to: 'TCPCRYPT_OUT' },
  ];
  return { table: 'mangle', chains, jumps };
}

/**
 * The packets of which a plain connection is made, first of all so that they cost the least; what TCPCRYPT_STATE would
 * do with them is the same.
 */
function plainRule({ optionKinds = [253] }: RuleOptions, layout: MarkLayout): string {
  const unmarked = `-m mark --mark 0x0/${hexMark(layout.mask | layout.injectMark)}`;
  const without = optionKinds.map((kind) => `-m tcp ! --tcp-option ${kind}`).join(' ');
  return `-p tcp ${unmarked} -m connmark --mark ${stateMark(layout, ConnectionState.plain)} ${without} -j RETURN`;
}

/** A connection with a state. One that is encrypted waits when nobody listens: nothing is bypassed here. */
function stateRules(options: RuleOptions, layout: MarkLayout): string[] {
  const syn = '-p tcp -m tcp --tcp-flags SYN SYN';
  return [
    ...byWorker(options.superSegmentQueues, layout, '', ConnectionState.superSegment),
    ...byWorker(options.dataQueues, layout, '', ConnectionState.tcpcrypt),
    `${syn} -m connmark --mark ${stateMark(layout, ConnectionState.offered)} -g TCPCRYPT_AGAIN`,
    `${syn} -m connmark --mark ${asked(layout)} -g TCPCRYPT_AGAIN`,
    // A repeated SYN of a plain connection decides nothing.
    `${syn} -j RETURN`,
    ...(options.optionKinds ?? [253]).map((kind) => `-p tcp -m tcp --tcp-option ${kind} -g TCPCRYPT_OPTION`),
    `-m connmark --mark ${asked(layout)} -g TCPCRYPT_ASKED`,
  ];
}

/** A segment with one of our options, of a connection that is not encrypted: never bypassed. */
function optionRules(options: RuleOptions, layout: MarkLayout): string[] {
  const ofAsked = `-m connmark --mark ${asked(layout)}`;
  return [
    setPacketState(layout, ConnectionState.plain),
    `${ofAsked} ${setPacketState(layout, QUEUED_WITHOUT_STATE)}`,
    `${ofAsked} -j NFQUEUE ${anyOf(options.dataQueues)}`,
    ...byWorker(options.dataQueues, layout, ''),
  ];
}

/** A connection without state, in either direction. */
function newRules(options: RuleOptions, layout: MarkLayout): string[] {
  const rules: string[] = [];
  for (const ports of multiports(options.excludePorts ?? [])) {
    rules.push(
      `-p tcp -m tcp --tcp-flags SYN,ACK SYN -m multiport --dports ${ports} -j RETURN`,
      `-p tcp -m tcp --tcp-flags SYN,ACK SYN,ACK -m multiport --sports ${ports} -j RETURN`,
      `-p tcp -m tcp --tcp-flags SYN NONE -m multiport --ports ${ports} -j RETURN`,
    );
  }
  // Where other software turned tracking off no state can be kept. Strict asks about each packet then.
  if (!options.strict) rules.push('-p tcp -m conntrack --ctstate UNTRACKED -j RETURN');
  rules.push('-p tcp -m tcp --tcp-flags SYN SYN -g TCPCRYPT_SETUP');
  // The rewriter's table knows: a connection that was there before us is plain, one whose entry was lost is what it was.
  const bypass = options.dataWhenNoState ? '' : ' --queue-bypass';
  rules.push(
    setPacketState(layout, QUEUED_WITHOUT_STATE),
    `-j NFQUEUE ${anyOf(options.dataQueues)}${bypass}`,
  );
  return rules;
}

/** A SYN or SYN-ACK. */
function setupRules(options: RuleOptions, layout: MarkLayout): string[] {
  return [...markAsked(options, layout), `-j NFQUEUE ${anyOf(options.setupQueues)}${bypassOf(options)}`];
}

/**
 * Before the queue: it may let the packet pass. Not plain, for conntrack may have forgotten an encrypted connection,
 * and what its kernel sends while anybody's SYN waits in the queue must not pass by.
 */
function markAsked(options: RuleOptions, layout: MarkLayout): string[] {
  return options.strict ? [] : [`-j CONNMARK --set-xmark ${asked(layout)}`];
}

function bypassOf({ strict }: RuleOptions): string {
  return strict ? '' : ' --queue-bypass';
}

function asked(layout: MarkLayout): string {
  return stateMark(layout, ConnectionState.asked);
}

/** Errors about plain connections concern nobody; without a listener they pass as they are. */
function icmpRules(family: Family, layout: MarkLayout): string[] {
  const unqueued = [ConnectionState.plain, ConnectionState.offered];
  return [
    ...unqueued.map((state) => `-m connmark --mark ${stateMark(layout, state)} -j RETURN`),
    ...ICMP_ERRORS[family].map((match) => `${match} -g TCPCRYPT_ICMP_ERROR`),
  ];
}

/**
 * A rule a worker, by the connmark; with a state, for connections in that state only. The last takes what is left
 * (a worker's number from when there were more of them, a packet without conntrack entry): nothing falls through.
 */
function byWorker(queues: QueueRange, layout: MarkLayout, suffix: string, state?: ConnectionState): string[] {
  return Array.from({ length: queues.count }, (_, worker) => {
    const last = worker === queues.count - 1;
    const mask = (last ? 0 : layout.workerMask) | (state === undefined ? 0 : layout.stateMask);
    const mark = markOf(layout, state ?? ConnectionState.none, last ? 0 : worker);
    const match = mask === 0 ? '' : `-m connmark --mark ${hexMark(mark)}/${hexMark(mask)} `;
    return `${match}-j NFQUEUE --queue-num ${queues.first + worker}${suffix}`;
  });
}

/**
 * What has no worker in its connmark: by a hash of the two addresses, the same in both directions and on each kind of
 * queue (`nfqueue_hash` of linux/net/netfilter/nf_queue.h), so that whoever is asked first is asked ever after.
 */
function anyOf({ first, count }: QueueRange): string {
  return count === 1 ? `--queue-num ${first}` : `--queue-balance ${first}:${first + count - 1}`;
}

/** value/mask of a state, whatever the worker. */
function stateMark(layout: MarkLayout, state: number): string {
  return `${hexMark(markOf(layout, state as ConnectionState))}/${hexMark(layout.stateMask)}`;
}

/** Tells the rewriter, by the packet's mark, how a queued packet stands (`queuedState`). */
function setPacketState(layout: MarkLayout, state: number): string {
  return `-j MARK --set-xmark ${hexMark(markOf(layout, state as ConnectionState))}/${hexMark(layout.mask)}`;
}

function multiports(ranges: readonly PortRange[]): string[] {
  const lists: string[] = [];
  let list: string[] = [];
  let slots = 0;
  for (const { port, endPort = port } of ranges) {
    const needs = endPort === port ? 1 : 2;
    if (slots + needs > MULTIPORT_SLOTS) {
      lists.push(list.join(','));
      list = [];
      slots = 0;
    }
    list.push(endPort === port ? `${port}` : `${port}:${endPort}`);
    slots += needs;
  }
  if (list.length > 0) lists.push(list.join(','));
  return lists;
}

function check(options: RuleOptions): void {
  const ranges = [options.setupQueues, options.dataQueues, options.superSegmentQueues];
  const taken = new Set<number>();
  for (const { first, count } of ranges) {
    if (!Number.isInteger(count) || count < 1 || count > MAX_WORKERS || count !== ranges[0]!.count) {
      throw usage(`queue ranges must all have the same count, 1 to ${MAX_WORKERS}`);
    }
    if (!Number.isInteger(first) || first < 0 || first + count > 0x10000) {
      throw usage(`queue ${first} is not between 0 and 65535`);
    }
    for (let queue = first; queue < first + count; queue++) {
      if (taken.has(queue)) throw usage(`queue ${queue} is in two ranges`);
      taken.add(queue);
    }
  }
  for (const { port, endPort = port } of options.excludePorts ?? []) {
    const valid = Number.isInteger(port) && Number.isInteger(endPort) && port >= 1 && endPort <= 65535;
    if (!valid || endPort < port) throw usage(`ports ${port} to ${endPort} are no range of ports`);
  }
  for (const kind of options.optionKinds ?? []) {
    if (!Number.isInteger(kind) || kind < 2 || kind > 255) throw usage(`${kind} is no TCP option kind`);
  }
  for (const cidr of options.excludeCidrs ?? []) parseCidr(cidr);
}

function usage(message: string): TcpcryptError {
  return new TcpcryptError('ERR_TCPCRYPT_USAGE', message);
}
