/**
 * A program for tests of the packet-filter rules: binds the queues of `rules-lab.ts` and answers as it is told, once
 * for each kind of packet. Writes `ready`, then a line of JSON for each packet.
 */
import { argv, stdout } from 'node:process';
import {
  askedBefore,
  ConnectionState,
  clearedMark,
  markLayout,
  queuedState,
  verdictMark,
} from '../../../netfilter/marks.ts';
import {
  completeChecksums,
  descriptor,
  packetFlags,
  Queue,
  verdicts,
} from '../../../sidecar/nfqueue-bindings/index.ts';

/** `accept` decides nothing, `hold` gives no verdict at all; a state's name puts the connection into it. */
export type Answer = 'accept' | 'drop' | 'hold' | Exclude<keyof typeof ConnectionState, 'none' | 'asked'>;

export interface Answers {
  readonly syn?: Answer;
  readonly synAck?: Answer;
  /** Everything else. Untold, a connection that nothing is decided about becomes plain. */
  readonly other?: Answer;
  /** Turns the payload's bits over on the data queues, as a cipher both ends have. */
  readonly flip?: boolean;
  /** Reads nothing; the setup queue holds one packet, then fails open. */
  readonly stuck?: boolean;
  /** Workers; default 1. */
  readonly workers?: number;
  /** Binds these only. */
  readonly kinds?: readonly ('setup' | 'data' | 'superSegment')[];
}

export interface Seen {
  readonly kind: 'setup' | 'data' | 'superSegment';
  readonly worker: number;
  readonly hook: number;
  readonly mark: number;
  /** What the packet's mark says of its connection (`queuedState`, `askedBefore`). */
  readonly state: 'none' | 'plain' | 'tcpcrypt' | 'asked before';
  readonly protocol: number;
  /** TCP flags that are set of S, A, F, R; '' for other protocols. */
  readonly flags: string;
  /** The lower port, which is the server's. */
  readonly port: number;
  readonly bytes: number;
  readonly payloadBytes: number;
  readonly gso: boolean;
}

const layout = markLayout();
const firsts = { setup: 100, data: 110, superSegment: 120 } as const;

function setupState(mark: number): 'none' | 'asked before' {
  return askedBefore(layout, mark) ? 'asked before' : 'none';
}

function read(
  packet: Buffer,
): Pick<Seen, 'protocol' | 'flags' | 'port' | 'bytes' | 'payloadBytes'> & { readonly data: number } {
  const v4 = packet[0]! >> 4 === 4;
  const header = v4 ? (packet[0]! & 15) * 4 : 40;
  const protocol = v4 ? packet[9]! : packet[6]!;
  const bytes = packet.length;
  if (protocol !== 6) return { protocol, flags: '', port: 0, bytes, payloadBytes: 0, data: bytes };
  const bits = packet[header + 13]!;
  const named = [2, 16, 1, 4].map((bit, i) => (bits & bit ? 'SAFR'[i] : '')).join('');
  const data = header + (packet[header + 12]! >> 4) * 4;
  const port = Math.min(packet.readUInt16BE(header), packet.readUInt16BE(header + 2));
  return { protocol, flags: named, port, bytes, payloadBytes: bytes - data, data };
}

if (import.meta.main) {
  const answers = JSON.parse(argv[2] ?? '{}') as Answers;
  const kinds = answers.kinds ?? ['setup', 'data', 'superSegment'];
  const queues = kinds.flatMap((kind) =>
    Array.from({ length: answers.workers ?? 1 }, (_, worker) => {
      const setup = kind === 'setup';
      const maxLength = answers.stuck ? 1 : 4096;
      const number = firsts[kind] + worker;
      const queue = new Queue({ number, gso: kind === 'superSegment', failOpen: setup, maxLength });
      return { kind, worker, queue };
    }),
  );
  stdout.write('ready\n');
  const handle = (kind: Seen['kind'], worker: number, queue: Queue, at: number): void => {
    const field = (name: keyof typeof descriptor): number => queue.descriptors[at + descriptor[name]]!;
    const packet = queue.ring.subarray(field('offset'), field('offset') + field('length'));
    const { data, ...parts } = read(packet);
    const gso = (field('flags') & packetFlags.gso) !== 0;
    const mark = field('mark');
    const seen: Seen = {
      kind,
      worker,
      hook: field('hook'),
      mark,
      state: kind === 'setup' ? setupState(mark) : queuedState(layout, mark),
      gso,
      ...parts,
    };
    stdout.write(`${JSON.stringify(seen)}\n`);
    const unknown = kind === 'data' && seen.protocol === 6 && seen.state === 'none';
    const told = seen.flags === 'S' ? answers.syn : seen.flags === 'SA' ? answers.synAck : answers.other;
    const answer = told ?? (unknown ? 'plain' : 'accept');
    if (answer === 'hold') return;
    if (answer === 'drop') {
      queue.verdict(field('id'), verdicts.drop);
    } else if (answer !== 'accept') {
      const decided = verdictMark(layout, ConnectionState[answer], worker, mark);
      queue.verdict(field('id'), verdicts.repeat, { mark: decided });
    } else if (answers.flip && kind !== 'setup' && seen.payloadBytes > 0) {
      for (let i = data; i < packet.length; i++) packet[i]! ^= 0xff;
      completeChecksums(packet);
      queue.verdict(field('id'), verdicts.accept, { payload: packet, mark: clearedMark(layout, mark) });
    } else {
      queue.verdict(field('id'), verdicts.accept, { mark: clearedMark(layout, mark) });
    }
  };
  const poll = (): void => {
    for (const { kind, worker, queue } of queues) {
      const count = queue.receive(0);
      for (let at = 0; at < count * descriptor.stride; at += descriptor.stride)
        handle(kind, worker, queue, at);
      queue.flush();
    }
  };
  setInterval(answers.stuck ? () => {} : poll, 1);
}
