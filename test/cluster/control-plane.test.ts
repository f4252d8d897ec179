/** The API server that the operator's tests stand on. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { test } from 'node:test';
import { startControlPlane } from './control-plane.ts';
import { buildPrograms, hasGo, programPath } from './programs.ts';

const skip = hasGo() ? false : 'needs Go: it builds kube-apiserver';

test('an API server alone: objects, admission plugins, users of less rights', { skip }, async () => {
  await buildPrograms(['kubectl']);
  const viewer = { name: 'viewer', groups: ['viewers'] };
  const controlPlane = await startControlPlane({
    enableAdmissionPlugins: ['AlwaysPullImages'],
    users: [viewer],
  });
  const kubectl = (kubeconfig: string, ...args: string[]) =>
    spawnSync(programPath('kubectl'), [`--kubeconfig=${kubeconfig}`, ...args], { encoding: 'utf8' });
  try {
    const created = kubectl(
      controlPlane.kubeconfig,
      'run',
      'p',
      '--image=x',
      '--image-pull-policy=Never',
      '-ojson',
    );
    assert.equal(created.status, 0, created.stderr);
    assert.equal(JSON.parse(created.stdout).spec.containers[0].imagePullPolicy, 'Always');
    const refused = kubectl(controlPlane.kubeconfigOf(viewer), 'get', 'pods');
    assert.match(refused.stderr, /User "viewer" cannot list resource "pods"/);
  } finally {
    await controlPlane.stop();
  }
  assert.equal(existsSync(dirname(controlPlane.kubeconfig)), false, 'its files are left');
  await assert.rejects(fetch(controlPlane.url), 'it still answers');
});
