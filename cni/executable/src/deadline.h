#pragma once
#include <algorithm>
#include <chrono>

namespace tcpcrypt {

/** A moment by which something must have happened. Monotonic. */
class Deadline {
 public:
  using Clock = std::chrono::steady_clock;
  static Deadline after(std::chrono::milliseconds span) { return Deadline(Clock::now() + span); }
  /** For poll(2): never negative, and 0 only when it has passed. */
  int leftMs() const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(at_ - Clock::now()).count();
    return static_cast<int>(std::max<decltype(left)>(left, 0));
  }
  bool passed() const { return leftMs() == 0; }

 private:
  explicit Deadline(Clock::time_point at) : at_(at) {}
  Clock::time_point at_;
};

}  // namespace tcpcrypt
