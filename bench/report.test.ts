import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chart } from './chart.ts';
import { replaceResults } from './docs.ts';
import { makeReport, markdownTable, terminalTable } from './report.ts';
import type { RowResult } from './run.ts';

const row = (name: string, samples: RowResult['samples'], more: Partial<RowResult> = {}): RowResult => ({
  ...{ name, samples, failures: [], remarks: new Set<string>() },
  ...more,
});

const report = makeReport(
  {
    rows: [
      row('plain', { gbps1: [20, 10, 30], new1: [10_000], p50Byte: [80] }),
      row('proxy', { gbps1: [5, 4, 6], new1: [500], cached1: [1250], p50Byte: [160], rss0: [12.34] }),
      row('gone', {}, { skipped: 'gone could not be installed' }),
      row('broken', {}, { failures: ['new: it broke'], remarks: new Set(['only 3 of 9 resumed']) }),
    ],
    othersShare: [0.01, 0.5, 0.02],
    seconds: 61,
  },
  {
    machine: { cores: 2, kernel: '6.18.0', architecture: 'x64', node: 'v26' },
    ...{ rounds: 3, seconds: 2, seed: 7, mtu: 1500, quick: false, mostConnections: 9900 },
    rows: [
      { name: 'plain', group: 'plain', about: 'TCP' },
      { name: 'proxy', group: 'proxy', about: 'A & B' },
      { name: 'gone', group: 'tunnel', about: '' },
      { name: 'broken', group: 'tcpcrypt', about: '' },
    ],
  },
);

test('a report has medians, their spread, and ratios of medians to plain TCP', () => {
  const [plain, proxy] = report.rows;
  assert.equal(plain.figures.gbps1, 20);
  assert.equal(plain.spreads.gbps1, 1);
  assert.equal(plain.ratios.gbps1, 1);
  assert.equal(proxy.figures.gbps1, 5);
  assert.equal(proxy.ratios.gbps1, 0.25);
  assert.equal(proxy.ratios.p50Byte, 2);
  assert.equal(report.othersShare, 0.02);
});

test('resumed connections are compared with new ones of plain TCP, memory with nothing', () => {
  const { ratios } = report.rows[1];
  assert.equal(ratios.cached1, 0.125);
  assert.equal(ratios.rss0, undefined);
});

test('the table for a terminal: values, ratios below, and nothing for what was not measured', () => {
  const lines = terminalTable(report).split('\n');
  assert.deepEqual(
    lines.slice(0, 6).map((line) => line.trim().split(/\s{2,}/)),
    [
      ['Gbit/s', 'new/s', 'cached/s', '1 B µs', 'MB at'],
      ['1 stream', '1 client', '1 client', 'p50', '0'],
      ['plain', '20.00', '10,000', '-', '80', '-'],
      ['×1.00', '×1.00', '×1.00'],
      ['proxy', '5.00', '500', '1,250', '160', '12.3'],
      ['×0.25', '×0.05', '×0.13', '×2.00'],
    ],
  );
  const columns = lines.slice(0, 6).map((line) => line.length);
  assert.ok(Math.max(...columns) < 70, `${columns}`);
});

test('the notes tell what is missing and why', () => {
  const text = terminalTable(report);
  assert.match(text, /gone: not measured: gone could not be installed/);
  assert.match(text, /broken: failed: new: it broke/);
  assert.match(text, /broken: only 3 of 9 resumed/);
  assert.match(
    text,
    /3 rounds of 2 s, order by seed 7, MTU 1500, 2 min; other programs used 2 % of the machine/,
  );
  assert.match(text, /9,900 connections instead of 10,000/);
  assert.doesNotMatch(text, /not idle|quick run/);
  assert.match(terminalTable({ ...report, othersShare: 0.3 }), /not idle/);
  assert.match(terminalTable({ ...report, quick: true }), /quick run/);
});

test('the table in Markdown has as many cells in each line', () => {
  const lines = markdownTable(report)
    .split('\n')
    .filter((line) => line.startsWith('|'));
  assert.equal(lines.length, 4);
  for (const line of lines) assert.equal(line.split('|').length, 8, line);
  assert.match(lines[3], /\| proxy \| 5\.00 ×0\.25 \| 500 ×0\.05 \|/);
});

test('the chart: bars as long as their values, for both colour schemes', () => {
  const svg = chart(report);
  const bars = [...svg.matchAll(/<rect class="(\w+)" x="\d+" y="\d+" width="([\d.]+)"/g)];
  assert.deepEqual(
    bars.map(([, name]) => name),
    ['plain', 'other', 'plain', 'other', 'other', 'plain', 'other'],
  );
  assert.ok(Math.abs(Number(bars[0][2]) / Number(bars[1][2]) - 4) < 0.01);
  assert.match(svg, /prefers-color-scheme: dark/);
  assert.match(svg, /Resumed connections a second/);
  assert.doesNotMatch(svg, /8 streams/, 'a panel without figures');
  assert.doesNotMatch(svg, /gone|broken/, 'a row without figures');
  assert.doesNotMatch(svg, /NaN|undefined|Infinity/);
});

test('the chart stays one well-formed element, whatever a row is called', () => {
  const hostile = { ...report, rows: report.rows.map((each) => ({ ...each, name: '<&">' })) };
  const svg = chart(hostile).replace(/<style>[\s\S]*<\/style>/, '');
  assert.match(svg, /&lt;&amp;&quot;&gt;/);
  const tags = [...svg.matchAll(/<(\/?)(\w+)[^<>]*?(\/?)>/g)];
  assert.equal(svg.replace(/<\/?\w+[^<>]*>/g, '').match(/[<>]/), null);
  let depth = 0;
  for (const [, end, , alone] of tags) depth += end ? -1 : alone ? 0 : 1;
  assert.equal(depth, 0);
});

test('replaceResults changes what is between the marks and nothing else', () => {
  const page = 'a\n<!-- results: written by npm run bench -- --docs -->\nold\n<!-- end of results -->\nz\n';
  const once = replaceResults(page, 'new');
  assert.match(once, /^a\n<!-- results[^\n]*-->\n\nnew\n\n<!-- end of results -->\nz\n$/);
  assert.equal(replaceResults(once, 'new'), once);
  assert.throws(() => replaceResults('nothing', 'new'), /does not have/);
});
