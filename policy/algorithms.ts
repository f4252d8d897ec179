/** Names and numbers of the algorithms (wire.md, section 2), as policy documents and people write them. */

export const KEY_EXCHANGES: ReadonlyMap<string, number> = new Map([
  ['X25519MLKEM768', 0x210],
  ['X25519', 0x202],
  ['P-256', 0x200],
  ['P-521', 0x201],
  ['RSA-OAEP', 0x100],
]);

/** A suite's id plus this is the same suite with the aggregate MAC (wire.md, section 6). */
const AGGREGATE = 1;

const perSegment: readonly (readonly [string, number])[] = [
  ['AES-128-CTR-GMAC', 0x600],
  ['AES-128-CTR-HMAC-SHA256', 0x100],
  ['AES-256-CTR-HMAC-SHA256', 0x400],
  ['CHACHA20-HMAC-SHA256', 0x500],
  ['AES-128-CTR-CMAC', 0x300],
];

export const SUITES: ReadonlyMap<string, number> = new Map([
  ...perSegment,
  ...perSegment.map(([name, id]) => [`${name}-AGGREGATE`, id + AGGREGATE] as const),
]);

/** Without RSA-OAEP, which is off unless policy names it. */
export const DEFAULT_KEY_EXCHANGES: readonly number[] = [0x210, 0x202, 0x200, 0x201];
/** Those of wire.md section 2, in its order. */
export const DEFAULT_SUITES: readonly number[] = [
  0x601, 0x600, 0x101, 0x401, 0x501, 0x100, 0x400, 0x500, 0x300,
];
