#pragma once
#include <string>

namespace tcpcrypt {

struct ProbeOptions {
  std::string controlSocket = "/run/tcpcrypt-state/control.sock";
  /** Never green without a rewriter that handles packets. */
  bool strict = false;
  /** Counted from the start of the container's first process. */
  unsigned graceMs = 10'000;
};

/**
 * Waits until the rewriter handles packets, at most the grace period, so one call is enough and the pod goes on the
 * moment it can. Returns the exit status: 0 green. Not Strict: green after the grace period whatever happened.
 */
int probe(const ProbeOptions& options);

}  // namespace tcpcrypt
