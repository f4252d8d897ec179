/**
 * What may be demanded of a connection in a given scenario, beyond what holds always: that it completes, and
 * that it is encrypted. A demand is made only where no fault of the scenario can excuse a failure.
 */

import type { Connection } from './connection.ts';
import type { Faults, Strip } from './path.ts';
import type { HostPlan, Scenario } from './scenario.ts';

/** A plain connection's bytes may be other than what was sent: nothing in TCP would notice. */
export function tampers(scenario: Scenario): boolean {
  return scenario.faults.ab.corrupt > 0 || scenario.faults.ba.corrupt > 0;
}

/** Whether stripping of this kind can stop a connection that is already bound. */
function mayStopBound(strip: Strip | undefined): boolean {
  if (strip === undefined || strip.which === 'syn') return false;
  return strip.fromMs > 0 || (strip.probability < 1 && strip.probability > 0.2);
}

export function mustComplete(scenario: Scenario, connection: Connection): boolean {
  const { a, b } = scenario.hosts;
  const { ab, ba } = scenario.faults;
  const { plan } = connection;
  if (connection.excused || connection.refused) return false;
  if (tampers(scenario) || mayStopBound(ab.strip) || mayStopBound(ba.strip)) return false;
  if (plan.openerScript.end === 'abort' || plan.listenerScript.end === 'abort') return false;
  if (a.mode === 'Strict' || b.mode === 'Strict' || a.authentication === 'Required') return false;
  // An older ISN on a 4-tuple in TIME-WAIT needs an RST to get through, which rstCheck may not let pass.
  if (reusesWithOlderIsn(scenario, connection) && (a.rstCheck || b.rstCheck)) return false;
  // A resumed S is bound by its NEXTK2; C is plain if the path took that out of the SYN-ACK.
  const back = plan.opener === 'a' ? ba : ab;
  const mayLoseNextk2 =
    back.strip !== undefined && back.strip.which !== 'non-syn' && back.strip.probability < 1;
  if (connection.label > 0 && (mayLoseNextk2 || (back.strip?.fromMs ?? 0) > 0)) return false;
  // A cookie is checked by the very segment that ends the handshake; any other is answered by a reset.
  const cookies = [a, b].some((host) => host.cookies);
  if (cookies && (!clean(ab) || !clean(ba) || scenario.attack !== undefined || ab.jitterMs + ba.jitterMs > 0))
    return false;
  const lossy = Math.max(ab.loss, ba.loss) > 0 || ab.strip !== undefined || ba.strip !== undefined;
  // A blind SYN can keep a handshake from ending with any TCP.
  const { opener, listener } = connection;
  if (scenario.attack !== undefined && (!opener?.establishedAt || !listener?.establishedAt)) return false;
  // Five SYN-ACKs, most of them spent on a full accept queue, may all be lost.
  if ((lossy || ab.dropsUnknownSyn || ba.dropsUnknownSyn) && a.refuseAccepts + b.refuseAccepts > 0)
    return false;
  if (lossy && connection.opener?.establishedAt === undefined) return false;
  return true;
}

/** The 4-tuple's last connection may still be in TIME-WAIT, which takes this SYN for an old one. */
function reusesWithOlderIsn(scenario: Scenario, { label, plan }: Connection): boolean {
  const before = scenario.connections[label - 1];
  if (before === undefined || before.sourcePort !== plan.sourcePort) return false;
  return ((plan.openerIss - before.openerIss) | 0) <= 200_000;
}

function clean(faults: Faults): boolean {
  const random =
    faults.loss +
    faults.duplicate +
    faults.reorder +
    faults.split +
    faults.merge +
    faults.corrupt +
    faults.damage;
  return random === 0 && faults.strip === undefined && !faults.dropsUnknownSyn;
}

function willing(host: HostPlan): boolean {
  return (
    host.rewriter &&
    host.mode !== 'Disabled' &&
    host.authentication === 'Optional' &&
    host.keyExchanges.includes(0x202)
  );
}

export function mustEncrypt(scenario: Scenario, connection: Connection): boolean {
  const { a, b } = scenario.hosts;
  const { ab, ba } = scenario.faults;
  if (!willing(a) || !willing(b) || !clean(ab) || !clean(ba)) return false;
  // A listener that accepts too late ends a cached connection on which no MAC ever came back.
  if (a.refuseAccepts + b.refuseAccepts > 0 && connection.label > 0) return false;
  const roundTrip =
    ab.delayMs + ab.jitterMs + ba.delayMs + ba.jitterMs + 4 * (a.queueDelayMs + b.queueDelayMs);
  if (roundTrip > 900 || scenario.restart !== undefined || scenario.attack !== undefined) return false;
  const { plan } = connection;
  if (plan.simultaneous || connection.excused || reusesWithOlderIsn(scenario, connection)) return false;
  return plan.openerScript.end !== 'abort' && plan.listenerScript.end !== 'abort';
}
