/**
 * The chart: horizontal bars in panels, as an SVG that needs no font, no script and no other file, and follows the
 * reader's colour scheme (prefers-color-scheme works in an <img> too). Pure.
 */
import { FIGURES, type FigureName } from './figures.ts';
import type { Report, ReportedRow } from './report.ts';

interface Panel {
  readonly title: string;
  readonly figure: FigureName;
}

const PANELS: readonly Panel[] = [
  { title: 'Gbit/s, 1 stream', figure: 'gbps1' },
  { title: 'Gbit/s, 8 streams', figure: 'gbps8' },
  { title: 'CPU seconds per GB, 1 stream (less is better)', figure: 'cpu1' },
  { title: 'New connections a second, 1 client', figure: 'new1' },
  { title: 'Resumed connections a second, 1 client', figure: 'cached1' },
  { title: 'Ping-pong of 1 byte, µs, median (less is better)', figure: 'p50Byte' },
];

const WIDTH = 800;
const LABEL_WIDTH = 285;
const VALUE_WIDTH = 70;
const BAR = 16;
const GAP = 5;
const TITLE = 34;
const MARGIN = 16;

const STYLE = `
  text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f; }
  .title { font-size: 13px; font-weight: 600; }
  .back { fill: #ffffff; } .other { fill: #8c959f; } .plain { fill: #57606a; } .floor { fill: #afb8c1; } .own { fill: #1a7f37; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .back { fill: #0d1117; } .other { fill: #6e7681; } .plain { fill: #b1bac4; } .floor { fill: #484f58; } .own { fill: #3fb950; }
  }`;

const classes: Readonly<Record<string, string>> = {
  ...{ plain: 'plain', proxy: 'other', tunnel: 'other', floor: 'floor' },
  ...{ tcpcrypt: 'own', suite: 'own', 'key exchange': 'own' },
};

const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (char) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[char]!);

/** The chart of a report; panels for which no row has a figure are left out. */
export function chart(report: Report): string {
  const parts: string[] = [];
  let y = MARGIN;
  for (const { title, figure } of PANELS) {
    const rows = report.rows.filter((row) => row.figures[figure] !== undefined);
    if (rows.length === 0) continue;
    parts.push(`<text class="title" x="${MARGIN}" y="${y + 18}">${escaped(title)}</text>`);
    y += TITLE;
    const most = Math.max(...rows.map((row) => row.figures[figure]!));
    for (const row of rows) {
      parts.push(bar(row, figure, most, y));
      y += BAR + GAP;
    }
    y += MARGIN;
  }
  const height = y + MARGIN;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="Benchmark of tcpcrypt and its peers">`,
    `<style>${STYLE}\n</style>`,
    `<rect class="back" width="${WIDTH}" height="${height}" rx="6"/>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

function bar(row: ReportedRow, figure: FigureName, most: number, y: number): string {
  const value = row.figures[figure]!;
  const space = WIDTH - LABEL_WIDTH - VALUE_WIDTH - MARGIN;
  const width = most === 0 ? 0 : Math.max(1, (value / most) * space);
  const middle = y + BAR - 4;
  const { digits } = FIGURES[figure];
  const shown = value.toLocaleString('en-US', { maximumFractionDigits: digits });
  return [
    `<text x="${LABEL_WIDTH - 8}" y="${middle}" text-anchor="end">${escaped(row.name)}</text>`,
    `<rect class="${classes[row.group] ?? 'other'}" x="${LABEL_WIDTH}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" rx="2"/>`,
    `<text x="${(LABEL_WIDTH + width + 6).toFixed(1)}" y="${middle}">${shown}</text>`,
  ].join('');
}
