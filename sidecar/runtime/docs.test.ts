/** The documentation's lists are those of the code: commands and options, metrics, errors, API paths. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parse } from 'yaml';
import { catalogue } from '../../errors/catalogue.ts';
import { routes, toApiConnection } from './api.ts';
import { type Command, commands, environment } from './commands.ts';
import { metrics } from './metrics.ts';
import { encrypted, plain } from './testing.ts';

const read = (name: string): string => readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8');

/** Rows of all tables whose first cell is code: [`code`, the other cells]. */
function rows(text: string): string[][] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) =>
      line
        .slice(2, -2)
        .split(' | ')
        .map((cell) => cell.trim()),
    );
}

function section(text: string, title: string): string {
  const start = text.indexOf(`\n## ${title}\n`);
  assert.notEqual(start, -1, `no section ${title}`);
  const end = text.indexOf('\n## ', start + 1);
  return text.slice(start, end < 0 ? undefined : end);
}

test('docs/errors.md mirrors the catalogue', () => {
  const documented = Object.fromEntries(rows(read('errors.md')).map(([code, meaning]) => [code, meaning]));
  const expected = Object.fromEntries(
    Object.entries(catalogue).map(([code, meaning]) => [`\`${code}\``, meaning]),
  );
  assert.deepEqual(documented, expected);
});

test('docs/metrics.md mirrors the registry', () => {
  const documented = rows(section(read('metrics.md'), 'Metrics'));
  const expected = Object.entries(metrics).map(([name, { type, labels, help }]) => [
    `\`${name}\``,
    type,
    labels.map((label) => `\`${label}\``).join(', ') || '-',
    help,
  ]);
  assert.deepEqual(
    documented.map((row) => row.slice(0, 4)),
    expected,
  );
});

test('docs/commands.md mirrors the commands and their options', () => {
  const text = read('commands.md');
  for (const command of Object.values<Command>(commands)) {
    const usage = ['tcpcrypt', command.name, ...command.positionals].join(' ');
    const documented = rows(section(text, usage));
    const expected = Object.entries(command.options)
      .filter(([name, { hidden }]) => !hidden && !['help', 'version', 'log-level'].includes(name))
      .map(([name, { value, help, default: otherwise }]) => [
        `\`--${name}${value === undefined ? '' : ` ${value}`}\``,
        otherwise === undefined ? '-' : `\`${otherwise}\``,
        help,
      ]);
    assert.deepEqual(documented, expected, usage);
  }
  const variables = rows(section(text, 'Environment'));
  assert.deepEqual(
    variables,
    Object.entries(environment).map(([name, help]) => [`\`${name}\``, help]),
  );
});

test('docs/api.yaml has every path and method that the API serves, and no other', () => {
  const document = parse(read('api.yaml')) as { paths: Record<string, Record<string, unknown>> };
  const documented = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods)
      .filter((method) => ['get', 'put', 'delete', 'post'].includes(method))
      .map((method) => `${method.toUpperCase()} ${path.replace('{port}', '443')}`),
  );
  for (const operation of documented) {
    const [method, path] = operation.split(' ');
    assert.ok(
      routes.some((route) => route.method === method && route.path.test(path!)),
      `${operation} is not served`,
    );
  }
  assert.equal(documented.length, routes.length);
});

test('docs/api.yaml describes connections as the API shows them', () => {
  const { Connection } = (parse(read('api.yaml')) as { components: { schemas: { Connection: Schema } } })
    .components.schemas;
  const shown = [encrypted, plain].map((connection) => Object.keys(toApiConnection(connection)));
  assert.deepEqual(new Set(shown.flat()), new Set(Object.keys(Connection.properties)));
  for (const name of Connection.required) {
    assert.ok(
      shown.every((names) => names.includes(name)),
      name,
    );
  }
});

interface Schema {
  readonly properties: object;
  readonly required: readonly string[];
}
