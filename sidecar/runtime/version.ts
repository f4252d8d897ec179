/** The version from package.json, and the version of the policy documents that this program reads. */
import manifest from '../../package.json' with { type: 'json' };

export const version: string = manifest.version;
export const policySchema = 'tcpcrypt.io/v1alpha1';
