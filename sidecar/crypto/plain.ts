/**
 * The same bytes as a plain Uint8Array. What node:crypto gives are Buffers, whose `slice` shares memory where a
 * Uint8Array's copies: no Buffer leaves this layer.
 */
export function plain(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
