/** Who opened a flow, and where each direction began: what a stateful middlebox remembers. */
import { ACK, isSyn, SYN, type TcpPacket } from './packet.ts';

export type Side = 'opener' | 'listener';

export interface Flow {
  /** Counts from 0 in the order in which flows were seen. */
  readonly number: number;
  readonly opener: string;
  /** Initial sequence number of each side, once its SYN has been seen. */
  readonly isn: { opener?: number; listener?: number };
  /** Room for a transformation's own notes, by its name. */
  readonly notes: Map<string, unknown>;
}

const end = (address: string, port: number): string => `${address}:${port}`;

export class FlowTable {
  readonly #flows = new Map<string, Flow>();
  #next = 0;

  /** The packet's flow and who sent it. A SYN with another ISN begins the flow anew. */
  find(packet: TcpPacket): { flow: Flow; from: Side } {
    const source = end(packet.source, packet.sourcePort);
    const destination = end(packet.destination, packet.destinationPort);
    const key = [source, destination].sort().join('-');
    const opens = (packet.flags & (SYN | ACK)) === SYN;
    let flow = this.#flows.get(key);
    if (!flow || (opens && (flow.opener !== source || flow.isn.opener !== packet.seq))) {
      flow = { number: this.#next++, opener: source, isn: {}, notes: new Map() };
      this.#flows.set(key, flow);
    }
    const from = flow.opener === source ? 'opener' : 'listener';
    if (isSyn(packet)) flow.isn[from] = packet.seq;
    return { flow, from };
  }
}

/** A transformation's notes on a flow, made on first use. */
export function note<T>(flow: Flow, name: string, make: () => T): T {
  if (!flow.notes.has(name)) flow.notes.set(name, make());
  return flow.notes.get(name) as T;
}
