/**
 * The names that stand in the cluster's objects and in an injected pod. The operator writes them and the node agent
 * reads them, at versions that may differ by months: a name here is never changed, only added to. Imports nothing.
 */

/** On a namespace or a pod: `enabled` or `disabled`; the pod's wins. */
export const INJECT_LABEL = 'tcpcrypt.io/inject';
/** On a namespace: `strict` refuses pods without the sidecar. */
export const ENFORCE_LABEL = 'tcpcrypt.io/enforce';
/** On a pod: `enabled` gives its applications the local API. */
export const API_ANNOTATION = 'tcpcrypt.io/api';
/** On an injected pod, written by the webhook: `injected`. Whoever wants the details asks the sidecar. */
export const STATUS_ANNOTATION = 'tcpcrypt.io/status';
export const STATUS_INJECTED = 'injected';

/** The sidecar, always the first of a pod's init containers. */
export const CONTAINER = 'tcpcrypt';

/** emptyDir in memory: control socket, checkpoint, last policy. Under the kubelet's pod folder the agent reaches it. */
export const STATE_VOLUME = 'tcpcrypt-state';
/** Downward API: file `labels`. */
export const POD_VOLUME = 'tcpcrypt-pod';
/** emptyDir in memory, in the applications' containers as well, and only with API_ANNOTATION. */
export const API_VOLUME = 'tcpcrypt-api';
/** Lies empty over the place of an API token in our container. */
export const NO_TOKEN_VOLUME = 'tcpcrypt-no-token';

/** Where these are mounted in the sidecar (API_DIR: in the applications too). */
export const STATE_DIR = '/run/tcpcrypt-state';
export const POD_DIR = '/run/tcpcrypt-pod';
export const API_DIR = '/run/tcpcrypt';

/** In STATE_VOLUME. */
export const CONTROL_SOCKET_FILE = 'control.sock';
/** In API_VOLUME. */
export const API_SOCKET_FILE = 'api.sock';

/** A namespace's policy, rendered by the operator into its own namespace: one ConfigMap, found by this label. */
export const RENDERED_LABEL = 'tcpcrypt.io/rendered-for';
/** The ConfigMap's key: a JSON document, see `rendered.ts`. */
export const RENDERED_KEY = 'policies.json';

/** On a node: `supported` or `unsupported`, what its kernel can do. Set by its agent. */
export const NODE_LABEL = 'tcpcrypt.io/node';
/** The type of a condition of a node: True where the agent works. Its reason says how, its message why not. */
export const NODE_CONDITION = 'TcpcryptReady';
