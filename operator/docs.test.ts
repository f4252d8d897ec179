/** The documentation's lists are those of the code. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { LEFT_ALONE_REASONS } from './injection/decision.ts';
import { RESOURCE_ANNOTATIONS } from './injection/resources.ts';
import { metrics } from './metrics.ts';

const read = (name: string): string => readFileSync(new URL(`../docs/${name}`, import.meta.url), 'utf8');

test('docs/metrics.md has the operator’s metrics', () => {
  const documented = read('metrics.md')
    .split('\n')
    .filter((line) => line.startsWith('| `tcpcrypt_operator_'))
    .map((line) =>
      line
        .slice(2, -2)
        .split(' | ')
        .map((cell) => cell.trim()),
    );
  const expected = Object.entries(metrics).map(([name, { type, labels, help }]) => [
    `\`${name}\``,
    type,
    labels.map((label) => `\`${label}\``).join(', ') || '-',
    help,
  ]);
  assert.deepEqual(documented, expected);
});

test('docs/injection.md explains every reason and annotation', () => {
  const text = read('injection.md');
  for (const name of [...LEFT_ALONE_REASONS, ...Object.keys(RESOURCE_ANNOTATIONS)]) {
    assert.ok(text.includes(`\`${name}\``), name);
  }
});

test('alerts and dashboard ask for metrics that there are', () => {
  const declared = read('metrics.md') + read('../cni/agent/totals.ts');
  const known = new Set(declared.match(/tcpcrypt_[a-z_]+/g));
  for (const file of ['alerts.yaml', 'dashboard.json']) {
    const asked = [...read(`../charts/tcpcrypt/files/${file}`).matchAll(/tcpcrypt_[a-z_]+/g)].map(
      ([name]) => name,
    );
    assert.ok(asked.length > 5, file);
    for (const name of asked)
      assert.ok(known.has(name.replace(/_(bucket|sum|count)$/, '')), `${file}: ${name}`);
  }
});
