/** The table that `tcpcrypt connections` prints. */
import type { ApiConnection } from './api.ts';

const columns: readonly (readonly [string, (connection: ApiConnection, nowMs: number) => string])[] = [
  ['ROLE', ({ role, active }) => `${role} ${active ? 'active' : 'passive'}`],
  ['LOCAL', ({ local }) => local],
  ['REMOTE', ({ remote }) => remote],
  ['STATE', ({ state, reason }) => (reason === undefined ? state : `${state} (${reason})`)],
  ['KEY EXCHANGE', ({ keyExchange }) => keyExchange ?? '-'],
  ['SUITE', ({ suite }) => suite ?? '-'],
  ['HANDSHAKE', ({ handshake }) => handshake ?? '-'],
  ['AUTH', ({ authenticated }) => (authenticated ? 'yes' : 'no')],
  ['AGE', ({ openedAt }, nowMs) => formatAge((nowMs - Date.parse(openedAt)) / 1000)],
  ['IN', ({ bytesIn }) => formatBytes(bytesIn)],
  ['OUT', ({ bytesOut }) => formatBytes(bytesOut)],
  ['SESSION ID', ({ sessionId }) => sessionId ?? '-'],
];

/** Encrypted ones first, then by local and remote end. */
export function connectionsTable(connections: readonly ApiConnection[], nowMs: number): string {
  const order = ['encrypted', 'setup', 'plain'];
  const sorted = connections.toSorted(
    (a, b) =>
      order.indexOf(a.state) - order.indexOf(b.state) ||
      compare(a.local, b.local) ||
      compare(a.remote, b.remote),
  );
  const rows = sorted.map((connection) => columns.map(([, show]) => show(connection, nowMs)));
  const lines = [columns.map(([title]) => title), ...rows];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)));
  return lines
    .map(
      (line) =>
        `${line
          .map((cell, i) => cell.padEnd(widths[i]!))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

function formatAge(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${whole % 60}s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)}h${Math.floor((whole % 3600) / 60)}m`;
  return `${Math.floor(whole / 86_400)}d${Math.floor((whole % 86_400) / 3600)}h`;
}

function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
