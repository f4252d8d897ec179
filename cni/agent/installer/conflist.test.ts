import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Entry, namesPlugin, withEntry, withoutEntry } from './conflist.ts';

const entry: Entry = {
  type: 'tcpcrypt',
  agentSocket: '/run/tcpcrypt-node/agent.sock',
  agentUnavailable: 'Skip',
  exemptNamespaces: ['kube-system'],
};
const textOf = (edit: ReturnType<typeof withEntry>): string => {
  assert.equal(edit.kind, 'changed');
  return edit.kind === 'changed' ? edit.text : '';
};

const flannel = `{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "big": 12345678901234567890,
  "plugins": [
    {
      "type": "flannel",
      "delegate": { "hairpinMode": true, "isDefaultGateway": true }
    },
    {
      "type": "portmap", "capabilities": { "portMappings": true }
    }
  ]
}
`;

describe('a conflist', () => {
  test('gets our entry last, in its own manner, and every other byte stays', () => {
    const text = textOf(withEntry(flannel, entry));
    const at = flannel.indexOf('\n  ]\n');
    const added = `,
    {
      "type": "tcpcrypt",
      "agentSocket": "/run/tcpcrypt-node/agent.sock",
      "agentUnavailable": "Skip",
      "exemptNamespaces": [
        "kube-system"
      ]
    }`;
    assert.equal(text, flannel.slice(0, at) + added + flannel.slice(at));
    assert.deepEqual(withEntry(text, entry), { kind: 'same' });
    assert.equal(textOf(withoutEntry(text)), flannel);
    assert.equal(namesPlugin(text), true);
    assert.equal(namesPlugin(flannel), false);
  });

  test('on one line stays on one line', () => {
    const text = '{"cniVersion":"1.0.0","name":"k8s","plugins":[{"type":"ptp","a":"]}\\""}]}';
    const changed = textOf(withEntry(text, entry));
    assert.equal(changed, `${text.slice(0, -2)},${JSON.stringify(entry)}]}`);
    assert.equal(textOf(withoutEntry(changed)), text);
  });

  test('an entry of ours that is out of date is renewed where it stands; a second one goes', () => {
    const old = { type: 'tcpcrypt', agentSocket: '/old' };
    const plugins = [{ type: 'ptp' }, old, { type: 'other' }, old];
    const text = JSON.stringify({ cniVersion: '1.0.0', name: 'x', plugins });
    const changed = JSON.parse(textOf(withEntry(text, entry)));
    assert.deepEqual(changed.plugins, [{ type: 'ptp' }, entry, { type: 'other' }]);
    const without = JSON.parse(textOf(withoutEntry(text)));
    assert.deepEqual(without.plugins, [{ type: 'ptp' }, { type: 'other' }]);
  });

  test('a second entry goes even where the first is right', () => {
    const plugins = [{ type: 'ptp' }, entry, { type: 'tcpcrypt' }];
    const text = JSON.stringify({ cniVersion: '1.0.0', name: 'x', plugins });
    assert.deepEqual(JSON.parse(textOf(withEntry(text, entry))).plugins, [{ type: 'ptp' }, entry]);
  });

  test('one that the plugin cannot serve, or that is none, is left alone', () => {
    const list = (changes: object) =>
      JSON.stringify({ cniVersion: '1.0.0', name: 'x', plugins: [{ type: 'ptp' }], ...changes });
    const cases: readonly (readonly [string, RegExp])[] = [
      [list({ cniVersion: '1.2.0' }), /cniVersion 1\.2\.0/],
      [list({ cniVersion: '0.2.0' }), /cniVersion 0\.2\.0/],
      [list({ cniVersion: undefined }), /cniVersion undefined/],
      [list({ cniVersions: ['1.0.0', '1.3.0'] }), /cniVersion 1\.3\.0/],
      [list({ plugins: [] }), /no list of plugins/],
      [list({ plugins: [1] }), /no list of plugins/],
      [list({ plugins: undefined }), /no list of plugins/],
      ['{"cniVersion":', /no JSON/],
      ['', /no JSON/],
      ['[]', /no list of plugins/],
    ];
    for (const [text, reason] of cases) {
      const edit = withEntry(text, entry);
      assert.match(edit.kind === 'left_alone' ? edit.reason : edit.kind, reason, text);
    }
    assert.equal(
      withEntry(list({ cniVersion: undefined, cniVersions: ['1.0.0', '1.1.0'] }), entry).kind,
      'changed',
    );
    const ours = list({ plugins: [entry] });
    assert.equal(withoutEntry(ours).kind, 'left_alone');
  });

  test('any list: in and out again gives the same bytes', () => {
    const space = fc.constantFrom('', ' ', '\n', '\n\t', '\r\n  ');
    const plugin = fc.dictionary(fc.string(), fc.jsonValue()).map((rest) => ({ ...rest, type: 'other' }));
    const lists = fc.record({
      before: fc.dictionary(fc.string(), fc.jsonValue()),
      plugins: fc.array(plugin, { minLength: 1, maxLength: 4 }),
      indent: fc.constantFrom(undefined, 2, '\t'),
      space,
    });
    fc.assert(
      fc.property(lists, ({ before, plugins, indent, space }) => {
        const list = { ...before, cniVersion: '1.1.0', cniVersions: [], name: 'x', plugins };
        const text = `${space}${JSON.stringify(list, null, indent)}${space}`;
        const changed = textOf(withEntry(text, entry));
        assert.deepEqual(JSON.parse(changed).plugins.at(-1), entry);
        assert.equal(textOf(withoutEntry(changed)), text);
      }),
    );
  });
});
