// The load generator: what a figure is measured with that iperf3 does not measure.
//
//   load server PORT                              echoes every byte, on every address; writes "listening"
//   load connections HOST PORT CLIENTS SECONDS    a connection after the other: connect, 1 byte, its echo, close
//   load pingpong HOST PORT BYTES SECONDS         one connection, one message after the other
//   load hold HOST PORT COUNT                     opens COUNT connections, each proven by one byte, writes "holding",
//                                                 and keeps them until standard input ends
//
// One thread and one epoll each: two cores are shared with what is measured. Results are one line of JSON on standard
// output. Every wait has a limit, and what fails is counted, never hidden.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr int kEvents = 256;
constexpr int kBacklog = 4096;
// A connection that takes longer counts as failed.
constexpr double kConnectionLimitSeconds = 10;
// So many connections are in setup at once while `hold` opens its own.
constexpr size_t kOpening = 64;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "load: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

double since(Clock::time_point start) { return Seconds(Clock::now() - start).count(); }

sockaddr_in endpoint(const char* host, const char* port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::atoi(port)));
  if (inet_pton(AF_INET, host, &to.sin_addr) != 1) {
    errno = EINVAL;
    fail(host);
  }
  return to;
}

void noDelay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void watch(int epoll, int operation, int fd, uint32_t events, uint64_t data) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  if (epoll_ctl(epoll, operation, fd, &event) != 0) fail("epoll_ctl");
}

int server(const char* port) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in any = endpoint("0.0.0.0", port);
  if (bind(listener, reinterpret_cast<sockaddr*>(&any), sizeof any) != 0) fail("bind");
  if (listen(listener, kBacklog) != 0) fail("listen");
  const int epoll = epoll_create1(0);
  watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, static_cast<uint64_t>(listener));
  std::puts("listening");
  std::fflush(stdout);
  std::array<epoll_event, kEvents> events;
  std::array<char, 65536> bytes;
  for (;;) {
    const int count = epoll_wait(epoll, events.data(), kEvents, -1);
    for (int i = 0; i < count; i++) {
      const int fd = static_cast<int>(events[i].data.u64);
      if (fd == listener) {
        for (int next; (next = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
          noDelay(next);
          watch(epoll, EPOLL_CTL_ADD, next, EPOLLIN, static_cast<uint64_t>(next));
        }
        continue;
      }
      const ssize_t got = recv(fd, bytes.data(), bytes.size(), 0);
      if (got < 0 && errno == EAGAIN) continue;
      // Clients wait for the echo before they send more, so it always fits the socket's buffer.
      if (got <= 0 || send(fd, bytes.data(), static_cast<size_t>(got), MSG_NOSIGNAL) != got) close(fd);
    }
  }
}

/** A connection on its way: connect, one byte out, one byte in. */
struct Attempt {
  int fd = -1;
  bool sent = false;
  Clock::time_point start;
};

/** Opens connections and proves each by the echo of one byte; the caller says what becomes of a proven one. */
class Opener {
 public:
  Opener(const char* host, const char* port, size_t slots) : to_(endpoint(host, port)), attempts_(slots) {}

  /** Begins a connection in a slot. */
  void begin(size_t slot) {
    Attempt& attempt = attempts_[slot];
    attempt = {socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), false, Clock::now()};
    if (attempt.fd < 0) fail("socket");
    noDelay(attempt.fd);
    const int error = connect(attempt.fd, reinterpret_cast<const sockaddr*>(&to_), sizeof to_) == 0 ? 0 : errno;
    if (error != 0 && error != EINPROGRESS) lastError = error;
    // One that failed at once reports so as soon as it is watched.
    watch(epoll_, EPOLL_CTL_ADD, attempt.fd, EPOLLOUT, slot);
  }

  /** Waits a little; calls `done(slot, fd, ok)` for each connection that was proven or failed. It owns the fd then. */
  template <typename Done>
  void turn(Done done) {
    std::array<epoll_event, kEvents> events;
    const int count = epoll_wait(epoll_, events.data(), kEvents, 100);
    for (int i = 0; i < count; i++) {
      const size_t slot = events[i].data.u64;
      const int step = advance(attempts_[slot]);
      if (step != 0) finish(slot, step > 0, done);
    }
    if (count > 0) return;
    for (size_t slot = 0; slot < attempts_.size(); slot++) {
      if (attempts_[slot].fd < 0 || since(attempts_[slot].start) < kConnectionLimitSeconds) continue;
      lastError = ETIMEDOUT;
      finish(slot, false, done);
    }
  }

  void abandon() {
    for (Attempt& attempt : attempts_) {
      if (attempt.fd >= 0) close(attempt.fd);
      attempt.fd = -1;
    }
  }

  int lastError = 0;

 private:
  /** 1: proven; -1: failed; 0: goes on. */
  int advance(Attempt& attempt) {
    char byte = 'x';
    if (!attempt.sent) {
      if (send(attempt.fd, &byte, 1, MSG_NOSIGNAL) != 1) return note(errno);
      attempt.sent = true;
      watch(epoll_, EPOLL_CTL_MOD, attempt.fd, EPOLLIN, static_cast<uint64_t>(&attempt - attempts_.data()));
      return 0;
    }
    const ssize_t got = recv(attempt.fd, &byte, 1, 0);
    if (got == 1) return 1;
    return got < 0 && errno == EAGAIN ? 0 : note(got == 0 ? ECONNRESET : errno);
  }

  int note(int error) {
    lastError = error;
    return -1;
  }

  template <typename Done>
  void finish(size_t slot, bool ok, Done done) {
    const int fd = attempts_[slot].fd;
    attempts_[slot].fd = -1;
    epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
    done(slot, fd, ok);
  }

  sockaddr_in to_;
  std::vector<Attempt> attempts_;
  int epoll_ = epoll_create1(0);
};

const char* reason(int error) { return error == 0 ? "" : std::strerror(error); }

int connections(const char* host, const char* port, size_t clients, double seconds) {
  Opener opener(host, port, clients);
  uint64_t done = 0;
  uint64_t failed = 0;
  const Clock::time_point start = Clock::now();
  for (size_t slot = 0; slot < clients; slot++) opener.begin(slot);
  // On a slow path longer than asked, so that there is a rate at all; each attempt has its limit.
  while (since(start) < seconds || done + failed < clients) {
    opener.turn([&](size_t slot, int fd, bool ok) {
      close(fd);
      ok ? done++ : failed++;
      if (failed > 1000 && done == 0) fail("no connection succeeds");
      opener.begin(slot);
    });
  }
  const double elapsed = since(start);
  opener.abandon();
  std::printf("{\"connections\":%llu,\"failed\":%llu,\"seconds\":%.6f,\"error\":\"%s\"}\n",
              static_cast<unsigned long long>(done), static_cast<unsigned long long>(failed), elapsed,
              reason(opener.lastError));
  return 0;
}

/** Nanoseconds at a quantile of sorted values. */
uint64_t quantile(const std::vector<uint64_t>& sorted, double q) {
  return sorted[std::min(sorted.size() - 1, static_cast<size_t>(q * static_cast<double>(sorted.size())))];
}

int pingpong(const char* host, const char* port, size_t bytes, double seconds) {
  const sockaddr_in to = endpoint(host, port);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const timeval limit{.tv_sec = static_cast<time_t>(kConnectionLimitSeconds), .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  noDelay(fd);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) fail("connect");
  std::vector<char> message(bytes, 'x');
  std::vector<uint64_t> taken;
  taken.reserve(1 << 20);
  const Clock::time_point start = Clock::now();
  do {
    const Clock::time_point sent = Clock::now();
    if (send(fd, message.data(), bytes, MSG_NOSIGNAL) != static_cast<ssize_t>(bytes)) fail("send");
    if (recv(fd, message.data(), bytes, MSG_WAITALL) != static_cast<ssize_t>(bytes)) fail("receive");
    taken.push_back(static_cast<uint64_t>(std::chrono::nanoseconds(Clock::now() - sent).count()));
  } while (since(start) < seconds);
  close(fd);
  std::sort(taken.begin(), taken.end());
  std::printf("{\"roundTrips\":%zu,\"p50Us\":%.2f,\"p99Us\":%.2f}\n", taken.size(),
              static_cast<double>(quantile(taken, 0.5)) / 1000, static_cast<double>(quantile(taken, 0.99)) / 1000);
  return 0;
}

int hold(const char* host, const char* port, size_t count) {
  const size_t slots = std::min(count, kOpening);
  Opener opener(host, port, slots);
  size_t begun = 0;
  size_t held = 0;
  size_t failed = 0;
  const auto next = [&](size_t slot) {
    if (begun >= count) return;
    begun++;
    opener.begin(slot);
  };
  for (size_t slot = 0; slot < slots; slot++) next(slot);
  while (held + failed < count) {
    opener.turn([&](size_t slot, int fd, bool ok) {
      if (ok) held++;
      else failed++, close(fd);
      next(slot);
    });
  }
  std::printf("holding {\"held\":%zu,\"failed\":%zu,\"error\":\"%s\"}\n", held, failed, reason(opener.lastError));
  std::fflush(stdout);
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}

int usage() {
  std::fputs("usage: load server PORT | connections HOST PORT CLIENTS SECONDS | pingpong HOST PORT BYTES SECONDS\n"
             "            | hold HOST PORT COUNT\n", stderr);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  // As many open files as are allowed, for as many connections.
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "server" && argc == 3) return server(argv[2]);
  if (argc < 5) return usage();
  const int number = std::atoi(argv[4]);
  if (number <= 0) return usage();
  const auto size = static_cast<size_t>(number);
  if (what == "hold" && argc == 5) return hold(argv[2], argv[3], size);
  const double seconds = argc == 6 ? std::atof(argv[5]) : 0;
  if (seconds <= 0) return usage();
  if (what == "connections") return connections(argv[2], argv[3], size, seconds);
  if (what == "pingpong") return pingpong(argv[2], argv[3], size, seconds);
  return usage();
}
