#include "probe.h"

#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <string>

#include "http.h"

namespace tcpcrypt {

namespace {

constexpr std::chrono::milliseconds kAnswerWithin{1000};
constexpr int kAskAgainMs = 50;

/** How long ago the container's first process started, in milliseconds; 0 if that cannot be told. */
long long firstProcessAgeMs() {
  FILE* file = std::fopen("/proc/1/stat", "re");
  if (file == nullptr) return 0;
  char text[2048];
  const size_t length = std::fread(text, 1, sizeof(text) - 1, file);
  std::fclose(file);
  // proc(5): the name, field 2, may hold anything, so fields count from its closing bracket; the start is field 22.
  const std::string line(text, length);
  size_t at = line.rfind(')');
  for (int field = 2; field < 22 && at != std::string::npos; field++) at = line.find(' ', at + 1);
  if (at == std::string::npos) return 0;
  const long long ticks = std::atoll(line.c_str() + at + 1);
  timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  const long long age = now.tv_sec * 1000LL + now.tv_nsec / 1'000'000 - ticks * 1000 / sysconf(_SC_CLK_TCK);
  return age > 0 ? age : 0;
}

}  // namespace

int probe(const ProbeOptions& options) {
  const long long left = static_cast<long long>(options.graceMs) - firstProcessAgeMs();
  const Deadline end = Deadline::after(std::chrono::milliseconds(left > 0 ? left : 0));
  std::string why;
  for (;;) {
    const Reply reply = askOverHttp(options.controlSocket, "/v1/healthz", "", Deadline::after(kAnswerWithin));
    if (reply.status == 200) return 0;
    why = reply.status == 0 ? reply.body : "HTTP status " + std::to_string(reply.status);
    if (end.passed()) break;
    poll(nullptr, 0, std::min(kAskAgainMs, end.leftMs()));
  }
  std::fprintf(stderr, "tcpcrypt: %s: %s%s\n", options.controlSocket.c_str(), why.c_str(),
               options.strict ? "" : "; the pod starts all the same, its connections are plain");
  return options.strict ? 1 : 0;
}

}  // namespace tcpcrypt
