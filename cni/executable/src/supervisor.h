#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace tcpcrypt {

struct SupervisorOptions {
  std::vector<std::string> command;
  /** This many crashes within `window` are too many: then a pause of one window's length. */
  unsigned crashLimit = 5;
  std::chrono::milliseconds window{60'000};
  /** The rewriter's own: tells encrypted connections from others. */
  uint32_t markMask = 0x7e000000;
};

/** Counts crashes: pure, so that it can be tested without waiting. */
class CrashBudget {
 public:
  using Clock = std::chrono::steady_clock;
  CrashBudget(unsigned limit, std::chrono::milliseconds window) : limit_(limit), window_(window) {}
  /** Takes one down; true if these are too many, and then the count begins anew. */
  bool spend(Clock::time_point now) {
    while (!crashes_.empty() && now - crashes_.front() >= window_) crashes_.pop_front();
    crashes_.push_back(now);
    if (crashes_.size() < limit_) return false;
    crashes_.clear();
    return true;
  }

 private:
  unsigned limit_;
  std::chrono::milliseconds window_;
  std::deque<Clock::time_point> crashes_;
};

/** Runs until a signal ends the command, or it ends in a way that a restart does not mend. Returns the exit status. */
int supervise(const SupervisorOptions& options);

}  // namespace tcpcrypt
