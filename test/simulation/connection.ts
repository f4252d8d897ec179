/** One connection of a run and its two ends, as the checks see them. */

import type { ConnectionInfo } from '../../sidecar/rewriter/types.ts';
import type { ScriptedApplication } from './application.ts';
import type { ConnectionPlan, HostName } from './scenario.ts';
import type { TcpSocket } from './tcp-socket.ts';
import type { WireWatch } from './wire-watch.ts';

export interface End {
  readonly host: HostName;
  readonly socket: TcpSocket;
  readonly app: ScriptedApplication;
  readonly watch: WireWatch;
  info: ConnectionInfo | undefined;
}

export function otherHost(name: HostName): HostName {
  return name === 'a' ? 'b' : 'a';
}

export class Connection {
  readonly ends: { a?: End; b?: End } = {};
  readonly apps: { a?: ScriptedApplication; b?: ScriptedApplication } = {};
  openedAt: number | undefined;
  onEnd: (() => void) | undefined;
  /** A rewriter died while this connection was being set up: it may fail. */
  excused = false;
  refused = false;

  readonly label: number;
  readonly plan: ConnectionPlan;

  constructor(label: number, plan: ConnectionPlan) {
    this.label = label;
    this.plan = plan;
  }

  start(
    now: number,
    opener: HostName,
    openerApp: ScriptedApplication,
    listenerApp: ScriptedApplication,
  ): void {
    this.openedAt = now;
    this.apps[opener] = openerApp;
    this.apps[otherHost(opener)] = listenerApp;
  }

  get opener(): ScriptedApplication | undefined {
    return this.apps[this.plan.opener];
  }

  get listener(): ScriptedApplication | undefined {
    return this.apps[otherHost(this.plan.opener)];
  }

  /** Both sockets have ended, or the opener's has and the listener never made one. */
  get over(): boolean {
    if (this.opener?.how === undefined) return false;
    const passive = this.ends[otherHost(this.plan.opener)];
    return passive === undefined || passive.socket.ended !== undefined;
  }

  get complete(): boolean {
    return (this.opener?.complete ?? false) && (this.listener?.complete ?? false);
  }

  /** Every byte has been read, however the connection ended. */
  get delivered(): boolean {
    return [this.opener, this.listener].every((app) => app !== undefined && app.read === app.expected.length);
  }

  get mode(): 'encrypted' | 'plain' | 'mixed' | 'open' {
    const modes = [this.ends.a, this.ends.b].map((end) => {
      if (end === undefined || end.watch.encrypted) return end === undefined ? 'open' : 'encrypted';
      return end.watch.plain ? 'plain' : 'open';
    });
    if (modes[0] === modes[1]) return modes[0]!;
    return modes.includes('open') ? 'open' : 'mixed';
  }
}
