/** For tests: the built-in policy, as `tcpcrypt run` has it without a file. */
import { checkPolicy } from './document.ts';
import { type CompiledPolicy, compilePolicy } from './evaluate.ts';

export function builtInPolicy(): CompiledPolicy {
  const checked = checkPolicy({});
  if (!('document' in checked)) throw new Error('{} is a valid policy');
  return compilePolicy(checked.document);
}
