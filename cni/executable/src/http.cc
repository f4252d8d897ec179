#include "http.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "file-descriptor.h"

namespace tcpcrypt {

namespace {

constexpr size_t kReplyLimitBytes = 1 << 20;
constexpr int kBacklogRetryMs = 10;

Reply failed(const std::string& why) { return {0, why}; }

std::string errnoText(const char* what) { return std::string(what) + ": " + std::strerror(errno); }

/** Whether the socket is ready for `events` before the deadline. */
bool waitFor(int fd, short events, const Deadline& deadline) {
  for (;;) {
    pollfd entry{fd, events, 0};
    const int ready = poll(&entry, 1, deadline.leftMs());
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

/** Empty on success, else what went wrong. */
std::string connectTo(int fd, const std::string& path, const Deadline& deadline) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return "the socket's path is too long";
  std::memcpy(address.sun_path, path.data(), path.size());
  while (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    // A Unix socket whose backlog is full does not wait: it is asked again.
    if (errno != EAGAIN && errno != EINTR) return errnoText("connect");
    if (deadline.passed()) return "no answer in time";
    poll(nullptr, 0, std::min(kBacklogRetryMs, deadline.leftMs()));
  }
  return "";
}

std::string sendAll(int fd, std::string_view bytes, const Deadline& deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      if (!waitFor(fd, POLLOUT, deadline)) return "no answer in time";
    } else if (errno != EINTR) {
      return errnoText("send");
    }
  }
  return "";
}

std::string receiveAll(int fd, std::string& bytes, const Deadline& deadline) {
  char buffer[16384];
  for (;;) {
    if (!waitFor(fd, POLLIN, deadline)) return "no answer in time";
    const ssize_t length = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (length == 0) return "";
    if (length > 0) {
      bytes.append(buffer, static_cast<size_t>(length));
      if (bytes.size() > kReplyLimitBytes) return "the answer is too long";
    } else if (errno != EAGAIN && errno != EINTR) {
      return errnoText("receive");
    }
  }
}

}  // namespace

Reply askOverHttp(const std::string& socketPath, std::string_view target, std::string_view content,
                  Deadline deadline) {
  const FileDescriptor fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return failed(errnoText("socket"));
  // HTTP/1.0: the answer ends with the connection, and never comes in chunks.
  std::string request(content.empty() ? "GET " : "POST ");
  request.append(target).append(" HTTP/1.0\r\nHost: localhost\r\n");
  if (!content.empty()) {
    request.append("Content-Type: application/json\r\nContent-Length: ")
        .append(std::to_string(content.size()))
        .append("\r\n");
  }
  request.append("\r\n").append(content);
  std::string bytes;
  std::string why = connectTo(fd.get(), socketPath, deadline);
  if (why.empty()) why = sendAll(fd.get(), request, deadline);
  if (why.empty()) why = receiveAll(fd.get(), bytes, deadline);
  return why.empty() ? parseReply(bytes) : failed(why);
}

Reply parseReply(std::string_view bytes) {
  const Reply malformed{0, "the answer is not HTTP"};
  const size_t headEnd = bytes.find("\r\n\r\n");
  if (headEnd == std::string_view::npos) return malformed;
  // "HTTP/1.x NNN"
  const std::string_view head = bytes.substr(0, headEnd);
  if (head.size() < 12 || head.substr(0, 7) != "HTTP/1." || head[8] != ' ') return malformed;
  int status = 0;
  const auto [end, error] = std::from_chars(head.data() + 9, head.data() + 12, status);
  if (error != std::errc() || end != head.data() + 12 || status < 100) return malformed;
  return {status, std::string(bytes.substr(headEnd + 4))};
}

}  // namespace tcpcrypt
