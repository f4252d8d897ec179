/** For `node --test-global-setup`: the cluster that the tests shared goes after the last of them. */
import { down } from './cluster.ts';
import { sharedCluster } from './support/shared.ts';

export async function globalTeardown(): Promise<void> {
  await down(sharedCluster);
}
