// The first process of the sidecar's container: runs the rewriter and starts it again at once when it crashes, since
// encrypted connections wait for it (the kubelet takes ten seconds and more). When it crashes again and again it is
// left away for a while: the rules let new connections pass in plain text then (Strict: none), and the encrypted ones
// are ended, for they could only stall.
#include "supervisor.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <initializer_list>

#include "deadline.h"
#include "reset-encrypted.h"

namespace tcpcrypt {

namespace {

constexpr int kUsageStatus = 2;
constexpr int kNotStarted = 127;
constexpr std::initializer_list<int> kForwarded = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};

/** A line like the rewriter's own log. `text` is ours: nothing in it needs escaping. */
void say(const char* level, const char* format, ...) __attribute__((format(printf, 2, 3)));
void say(const char* level, const char* format, ...) {
  char text[256];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof(text), format, values);
  va_end(values);
  char time[32];
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts;
  gmtime_r(&now.tv_sec, &parts);
  strftime(time, sizeof(time), "%FT%T", &parts);
  std::fprintf(stderr, "{\"level\":\"%s\",\"time\":\"%s.%03ldZ\",\"part\":\"supervisor\",\"msg\":\"%s\"}\n", level, time,
               now.tv_nsec / 1'000'000, text);
}

sigset_t waitedFor() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  for (const int signal : kForwarded) sigaddset(&set, signal);
  return set;
}

bool stops(int signal) { return signal == SIGTERM || signal == SIGINT || signal == SIGQUIT; }

class Supervisor {
 public:
  explicit Supervisor(const SupervisorOptions& options)
      : options_(options), budget_(options.crashLimit, options.window), signals_(waitedFor()) {
    sigprocmask(SIG_BLOCK, &signals_, &before_);
    for (const std::string& part : options_.command) arguments_.push_back(const_cast<char*>(part.c_str()));
    arguments_.push_back(nullptr);
  }

  int run() {
    for (;;) {
      const int status = runOnce();
      const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      if (stopping_ || code == kUsageStatus || code == kNotStarted) return code;
      const bool tooMany = budget_.spend(CrashBudget::Clock::now());
      say("error", "the rewriter ended with status %d%s", code, tooMany ? ", too often" : "; it is started again");
      if (!tooMany) continue;
      const int ended = resetEncrypted(options_.markMask);
      say("error", "new connections are plain for %lld s; %d encrypted ones were ended",
          static_cast<long long>(options_.window.count() / 1000), ended);
      if (!pause()) return code;
    }
  }

 private:
  /** Starts the command and waits for its end; returns its wait status. */
  int runOnce() {
    const pid_t child = fork();
    if (child == 0) become();
    if (child < 0) {
      say("error", "fork: %s", std::strerror(errno));
      return 1 << 8;
    }
    for (;;) {
      int status = 0;
      if (reap(child, status)) return status;
      const int signal = sigwaitinfo(&signals_, nullptr);
      if (signal <= 0 || signal == SIGCHLD) continue;
      stopping_ |= stops(signal);
      kill(child, signal);
    }
  }

  [[noreturn]] void become() {
    // Two rewriters cannot serve one queue: ours does not outlive us.
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigprocmask(SIG_SETMASK, &before_, nullptr);
    execvp(arguments_[0], arguments_.data());
    say("error", "%s cannot be started: %s", arguments_[0], std::strerror(errno));
    _exit(kNotStarted);
  }

  /** Takes in every process that ended, orphans too; true if `child` is among them. */
  static bool reap(pid_t child, int& childStatus) {
    bool ended = false;
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid != child) continue;
      childStatus = status;
      ended = true;
    }
    return ended;
  }

  /** False if a signal to stop came meanwhile. */
  bool pause() {
    const Deadline end = Deadline::after(options_.window);
    while (!end.passed()) {
      const timespec left{end.leftMs() / 1000, end.leftMs() % 1000 * 1'000'000L};
      const int signal = sigtimedwait(&signals_, nullptr, &left);
      int ignored;
      if (signal == SIGCHLD) reap(0, ignored);
      if (signal > 0 && stops(signal)) return false;
    }
    return true;
  }

  const SupervisorOptions& options_;
  CrashBudget budget_;
  sigset_t signals_;
  sigset_t before_;
  std::vector<char*> arguments_;
  bool stopping_ = false;
};

}  // namespace

int supervise(const SupervisorOptions& options) { return Supervisor(options).run(); }

}  // namespace tcpcrypt
