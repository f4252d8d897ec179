/**
 * What earlier runs found and the rewriter does not close yet: scenarios that would fail for a known reason are
 * not drawn while its line says true. Set one to false and run the seeds to see the failure, or its end.
 */

export const OPEN = {
  /** A Strict host whose rewriter restarted lets a SYN-ACK pass that it has no record of. */
  strictAfterRestart: false,
  /** A wrong checksum counts for nothing once a MAC verifies, which does not cover timestamps. */
  damagedTimestamps: false,
  /** A 4-tuple taken by the next connection while the rewriter was away gets the old one's keys. */
  reusedWhileAway: true,
};
