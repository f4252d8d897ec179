/** What a row of the table is, and what it gives to those that measure it. */
import type { Bed, Service } from './bed.ts';
import type { Measure } from './figures.ts';

/** Whether connections come with a full key exchange each, or resume an earlier session. */
export type Sessions = 'new' | 'cached';

export interface Destination {
  readonly address: string;
  readonly port: number;
}

export type Counters = ReadonlyMap<string, number>;

/** A contender that runs. */
export interface Running extends AsyncDisposable {
  /** Where a client in the client's namespace connects to in order to reach a service of the server. */
  to(service: Service): Destination;
  /** Its processes at each end; empty where the kernel does the work alone. */
  readonly pids: { readonly client: readonly number[]; readonly server: readonly number[] };
  /** Where connections may turn out plain though they should not: how many did so far, of how many, and why. */
  plainConnections?(): { readonly plain: number; readonly all: number; readonly why: string };
  /** Plain connections are no fault, and figures of connections leave them out. */
  readonly countsEncrypted?: boolean;
  /** For --profile: each end's counters, as its metrics name them. */
  counters?(): { readonly client: Counters; readonly server: Counters };
  /** What the figures do not show and a reader must know. */
  remarks?(sessions: Sessions): readonly string[];
}

export type Group = 'plain' | 'proxy' | 'tunnel' | 'floor' | 'tcpcrypt' | 'suite' | 'key exchange';
export type Part = 'haproxy' | 'stunnel' | 'forwarder' | 'wireguard-go' | 'boringtun';

export interface Row {
  /** As in `--only`. */
  readonly name: string;
  readonly group: Group;
  /** One line for people. */
  readonly about: string;
  /** What scripts/setup-bench has to get, if anything. */
  readonly part?: Part;
  readonly measures: readonly Measure[];
  /** Throws `Unavailable` where it cannot be had here. */
  start(bed: Bed, sessions: Sessions): Promise<Running>;
}

/** Something cannot be measured here, and that is no fault: no peer could be installed, an algorithm is not offered. */
export class Unavailable extends Error {}
