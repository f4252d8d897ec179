/**
 * The one catalogue of errors. Every error that leaves a part carries a stable code from here;
 * `docs/errors.md` mirrors the list and a test keeps the two alike. Imports nothing.
 */

/** What each code means, in one sentence. Codes are never renamed or reused. */
export const catalogue = {
  ERR_TCPCRYPT_USAGE: 'The command line is wrong.',
  ERR_TCPCRYPT_NOT_ROOT: 'The command needs root, or the capabilities NET_ADMIN and NET_RAW.',
  ERR_TCPCRYPT_NO_NFQUEUE: 'The kernel or the network namespace does not offer NFQUEUE.',
  ERR_TCPCRYPT_QUEUE_BUSY: 'Another process has bound the queue number.',
  ERR_TCPCRYPT_NETLINK: 'The kernel refused a netlink request.',
  ERR_TCPCRYPT_POLICY_INVALID: 'The policy document is wrong; the policy in force stays.',
  ERR_TCPCRYPT_KEYS_INVALID: 'The trust-domain key file is wrong; the keys in force stay.',
  ERR_TCPCRYPT_STATE_DIR: 'The state directory cannot be used: it must be on a memory-backed file system.',
  ERR_TCPCRYPT_STATE_INVALID: 'A checkpoint cannot be read; it is ignored.',
  ERR_TCPCRYPT_RULES_INSTALL: 'The packet-filter rules could not be installed; nothing was changed.',
  ERR_TCPCRYPT_RULES_DIFFER: 'The packet-filter rules differ from what they should be.',
  ERR_TCPCRYPT_RULES_REMOVE: 'The packet-filter rules could not be removed.',
  ERR_TCPCRYPT_API_UNREACHABLE: 'The API socket does not answer: is `tcpcrypt run` running?',
  ERR_TCPCRYPT_CONNECTION_UNKNOWN: 'There is no such connection.',
  ERR_TCPCRYPT_NOT_ENCRYPTED: 'The connection is not encrypted, so it has no session ID.',
  ERR_TCPCRYPT_BAD_REQUEST: 'The request is not one that the API knows, or its arguments are wrong.',
  ERR_TCPCRYPT_NOT_INJECTED: 'The namespace enforces tcpcrypt and the pod has no sidecar.',
  ERR_TCPCRYPT_CONFIG_INVALID: "The operator's configuration file is wrong; the operator does not start.",
  ERR_TCPCRYPT_CERTIFICATE: 'The certificate of the webhook cannot be used; the one in force stays.',
  ERR_TCPCRYPT_KUBERNETES: 'The Kubernetes API server cannot be asked, or refused; it is tried again.',
  ERR_TCPCRYPT_SELF_TEST: 'The connection of the self-test is not encrypted.',
  ERR_TCPCRYPT_NAMESPACE: 'The network namespace of a container cannot be used.',
  ERR_TCPCRYPT_OTHER_MESH: "The pod's connections are another mesh's; it is left alone.",
  ERR_TCPCRYPT_INTERNAL: 'A bug in tcpcrypt.',
} as const;

export type ErrorCode = keyof typeof catalogue;

/** An error with a code from the catalogue. `message` says what is wrong in this case. */
export class TcpcryptError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TcpcryptError';
    this.code = code;
  }
}
