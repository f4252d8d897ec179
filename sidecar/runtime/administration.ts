/** What the main thread asks of the packet thread, done between two turns of the loop. */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { PolicyDocument } from '../../policy/document.ts';
import { compilePolicy } from '../../policy/evaluate.ts';
import { parseSockDiag } from '../nfqueue-bindings/index.ts';
import type { Policy, RewriterMachine } from '../rewriter/types.ts';
import { monotonicMs } from './clock.ts';
import { drainingPolicy } from './drain.ts';
import { Listings } from './listings.ts';
import type { FromPacketThread, ToPacketThread } from './messages.ts';
import type { PacketLoop } from './packet-loop.ts';

export class Administration {
  stopped = false;
  readonly #listings: Listings;
  readonly #port: MessagePort;
  readonly #loop: PacketLoop;
  #document: PolicyDocument;
  #draining = false;

  constructor(loop: PacketLoop, document: PolicyDocument, port: MessagePort) {
    this.#loop = loop;
    this.#document = document;
    this.#port = port;
    this.#listings = new Listings(() => loop.machine.connections());
  }

  /** There is more to do at once. */
  get busy(): boolean {
    return this.#listings.busy;
  }

  /** Takes the messages that came, and goes on with a list that is asked for. */
  turn(): void {
    for (;;) {
      const received = receiveMessageOnPort(this.#port);
      if (received === undefined) break;
      const message = received.message as ToPacketThread;
      const done = this.#loop.administer((machine) => this.#apply(message, machine));
      if ('id' in message && message.kind !== 'list') {
        this.#post({ kind: 'done', id: message.id, ...(!done && { error: 'see the log' }) });
      }
    }
    this.#listings.step((message) => this.#post(message));
  }

  #post(message: FromPacketThread): void {
    this.#port.postMessage(message);
  }

  #apply(message: ToPacketThread, machine: RewriterMachine): void {
    switch (message.kind) {
      case 'policy':
        this.#document = message.document;
        return machine.setPolicy(this.#policy());
      case 'keys':
        return machine.setTrustKeys(message.keys);
      case 'sockets': {
        const sockets = [...parseSockDiag(message.v4, 4), ...parseSockDiag(message.v6, 6)];
        return machine.reconcile(sockets, monotonicMs());
      }
      case 'app-support':
        return machine.setAppSupport(message.port, message.support);
      case 'flush-cache':
        return machine.flushSessionCache();
      case 'negative-list': {
        const entries = machine.shareNegativeList(message.entries, monotonicMs());
        return this.#post({ kind: 'negative-list', id: message.id, entries });
      }
      case 'list':
        return this.#listings.add(message);
      case 'drain':
        this.#draining = true;
        return machine.setPolicy(this.#policy());
      case 'stop':
        this.stopped = true;
    }
  }

  #policy(): Policy {
    const policy = compilePolicy(this.#document);
    return this.#draining ? drainingPolicy(policy) : policy;
  }
}
