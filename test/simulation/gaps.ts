/**
 * What earlier runs found and the rewriter does not close yet: scenarios that would fail for a known reason are
 * not drawn while its line says true. Set one to false and run the seeds to see the failure, or its end.
 */

export const OPEN = {
  /** A segment with a wrong checksum is believed in setup. */
  damagedSegmentsBelieved: true,
  /** After a restart a connection that fell back, but is still watched, has its keys gone: both ends are reset. */
  watchedPlainForgotten: true,
  /** After a restart unsent bytes may belong to a generation that the peer has left by the time they leave. */
  rekeyAfterRestart: true,
  /** After a restart a Strict host lets a SYN-ACK pass that it has no record of. */
  strictAfterRestart: true,
  /** A repeated SYN ends the watch for INIT data of a connection that fell back. */
  synEndsWatch: true,
};
