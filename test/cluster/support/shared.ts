/** The cluster that the test files share: the first one starts it, `global-setup.ts` takes it down after the last. */
import { after, before } from 'node:test';
import { Cluster, cannotRun, up } from '../cluster.ts';
import { toolsImage } from '../images.ts';
import { TestNamespace } from './pods.ts';

export const sharedCluster = new Cluster(process.env['TCPCRYPT_CLUSTER'] || 'test');

/** For `test`'s options: false, or why the tests cannot run here. */
export const skip: string | false = cannotRun() ?? false;

/** A namespace of the shared cluster for this test file, with what `prepare` puts into it before the first test. */
export function useNamespace(
  name: string,
  prepare: (namespace: TestNamespace) => Promise<void>,
): { readonly namespace: TestNamespace } {
  let namespace: TestNamespace | undefined;
  before(async () => {
    if (skip) return;
    const tools = await toolsImage();
    await up(sharedCluster);
    sharedCluster.loadImage(tools);
    namespace = new TestNamespace(sharedCluster, name);
    await prepare(namespace);
  });
  after(() => namespace?.remove());
  return {
    get namespace() {
      if (!namespace) throw new Error('there is no namespace outside a test');
      return namespace;
    },
  };
}
