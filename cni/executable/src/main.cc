// One executable without dependencies, three faces: the CNI plugin (when the runtime sets CNI_COMMAND), the sidecar
// container's first process, and its startup probe. What each does is in plugin.cc, supervisor.cc and probe.cc; this
// reads what they are given.
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cni-request.h"
#include "plugin.h"
#include "probe.h"
#include "supervisor.h"

#ifndef TCPCRYPT_VERSION
#define TCPCRYPT_VERSION "unknown"
#endif

namespace tcpcrypt {

namespace {

constexpr size_t kInputLimitBytes = 1 << 20;
constexpr int kUsage = 2;

constexpr const char* kHelp =
    R"(tcpcrypt-node: what tcpcrypt needs where there is no Node.js.

Usage: tcpcrypt-node supervise [options] -- COMMAND [ARGUMENT...]
       tcpcrypt-node probe [options]
       CNI_COMMAND=VERB ... tcpcrypt-node < CONFIGURATION      (as a CNI plugin)

supervise: runs COMMAND, starts it again at once when it crashes, forwards signals, reaps.
  --crashes NUMBER      this many in a window are too many: a pause follows (default 5)
  --window SECONDS      length of the window and of the pause (default 60)
A pause ends the encrypted connections; COMMAND's own --mark-mask (default 0x7e000000) says which ones these are.

probe: exits with 0 when the rewriter handles packets.
  --control-socket PATH whom to ask (default /run/tcpcrypt-state/control.sock)
  --grace SECONDS       from the container's start; after it the answer is yes (default 10)
  --strict              after it the answer is no

--help, --version. Exit status: 0 success, 1 failure, 2 wrong usage.
)";

int wrongUsage(const std::string& message) {
  std::fprintf(stderr, "tcpcrypt-node: ERR_TCPCRYPT_USAGE: %s; see --help\n", message.c_str());
  return kUsage;
}

std::optional<uint32_t> number(std::string_view text, uint32_t max) {
  const bool hex = text.starts_with("0x");
  if (hex) text.remove_prefix(2);
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, hex ? 16 : 10);
  if (error != std::errc() || end != text.data() + text.size() || value > max) return std::nullopt;
  return value;
}

/** The last one counts, as in the command itself, which refuses what is no mask. */
uint32_t markMaskOf(const std::vector<std::string>& command, uint32_t otherwise) {
  constexpr std::string_view kName = "--mark-mask";
  uint32_t mask = otherwise;
  for (size_t at = 0; at < command.size(); at++) {
    std::string_view text = command[at];
    if (!text.starts_with(kName)) continue;
    text.remove_prefix(kName.size());
    if (text.empty() && at + 1 < command.size()) {
      text = command[++at];
    } else if (text.starts_with('=')) {
      text.remove_prefix(1);
    } else {
      continue;
    }
    mask = number(text, UINT32_MAX).value_or(mask);
  }
  return mask;
}

int superviseCommand(std::span<char*> arguments) {
  SupervisorOptions options;
  size_t at = 0;
  for (; at < arguments.size() && std::string_view(arguments[at]) != "--"; at += 2) {
    const std::string name = arguments[at];
    const auto value = at + 1 < arguments.size() ? number(arguments[at + 1], UINT32_MAX) : std::nullopt;
    if (!value || *value == 0) return wrongUsage(name + " takes a number above 0");
    if (name == "--crashes") {
      options.crashLimit = *value;
    } else if (name == "--window" && *value <= 86'400) {
      options.window = std::chrono::seconds(*value);
    } else {
      return wrongUsage("supervise does not know " + name + " " + arguments[at + 1]);
    }
  }
  for (at++; at < arguments.size(); at++) options.command.emplace_back(arguments[at]);
  if (options.command.empty()) return wrongUsage("supervise needs -- COMMAND");
  options.markMask = markMaskOf(options.command, options.markMask);
  return supervise(options);
}

int probeCommand(std::span<char*> arguments) {
  ProbeOptions options;
  for (size_t at = 0; at < arguments.size(); at++) {
    const std::string name = arguments[at];
    if (name == "--strict") {
      options.strict = true;
      continue;
    }
    if (++at == arguments.size()) return wrongUsage("probe does not know " + name + ", or its value is missing");
    if (name == "--control-socket") {
      options.controlSocket = arguments[at];
    } else if (const auto seconds = number(arguments[at], 3600); name == "--grace" && seconds) {
      options.graceMs = *seconds * 1000;
    } else {
      return wrongUsage("probe does not know " + name + " " + arguments[at]);
    }
  }
  return probe(options);
}

/** Standard input to its end; nullopt if it is longer than anything that CNI sends. */
std::optional<std::string> readInput() {
  std::string text;
  char buffer[16384];
  for (;;) {
    const ssize_t length = read(STDIN_FILENO, buffer, sizeof(buffer));
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) return text;
    text.append(buffer, static_cast<size_t>(length));
    if (text.size() > kInputLimitBytes) return std::nullopt;
  }
}

int pluginCommand(const std::string& verb) {
  // Too long is not JSON either: the same error.
  const PluginOutput output = runPlugin(verb, readInput().value_or(""));
  for (std::string_view rest = output.text; !rest.empty();) {
    const ssize_t written = write(STDOUT_FILENO, rest.data(), rest.size());
    if (written < 0 && errno != EINTR) return 1;
    if (written > 0) rest.remove_prefix(static_cast<size_t>(written));
  }
  return output.status;
}

int run(std::span<char*> arguments) {
  const std::string verb = environment("CNI_COMMAND");
  if (arguments.empty() && !verb.empty()) return pluginCommand(verb);
  const std::string_view name = arguments.empty() ? "" : arguments[0];
  const auto rest = arguments.empty() ? arguments : arguments.subspan(1);
  if (name == "supervise") return superviseCommand(rest);
  if (name == "probe") return probeCommand(rest);
  if (name == "--help") return std::fputs(kHelp, stdout) < 0;
  if (name == "--version") return std::puts("tcpcrypt-node " TCPCRYPT_VERSION) < 0;
  return wrongUsage(name.empty() ? "no command, and no CNI_COMMAND" : "there is no command " + std::string(name));
}

}  // namespace

}  // namespace tcpcrypt

int main(int count, char** arguments) {
  return tcpcrypt::run(std::span(arguments, static_cast<size_t>(count)).subspan(1));
}
