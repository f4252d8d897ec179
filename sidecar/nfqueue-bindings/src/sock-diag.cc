#include "sock-diag.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <memory>

#include "failure.h"
#include "netns.h"

namespace tcpcrypt {

namespace {

constexpr int kAnswerTimeoutMs = 5000;
// The kernel fills messages of at most 32 KiB, whatever room there is.
constexpr size_t kReceiveBytes = 65536;
constexpr const char* kWhat = "cannot list the TCP sockets";

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

void sendRequest(int fd, uint8_t family) {
  Request request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.header.nlmsg_seq = 1;
  request.body.sdiag_family = family;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_ext = 1 << (INET_DIAG_INFO - 1);
  request.body.idiag_states = UINT32_MAX;
  ssize_t sent;
  do {
    sent = send(fd, &request, sizeof request, 0);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) throw systemFailure(kWhat, errno);
}

size_t receiveSome(int fd, std::array<uint8_t, kReceiveBytes>& buffer) {
  for (;;) {
    pollfd waiting{.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = poll(&waiting, 1, kAnswerTimeoutMs);
    if (ready == 0) throw systemFailure(kWhat, ETIMEDOUT);
    const ssize_t length = ready < 0 ? -1 : recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (length < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      throw systemFailure(kWhat, errno);
    }
    if (static_cast<size_t>(length) > buffer.size()) throw systemFailure(kWhat, EMSGSIZE);
    return static_cast<size_t>(length);
  }
}

/** Looks through one datagram; true if the dump ends in it. Throws if it says that the dump failed. */
bool dumpEnds(const uint8_t* bytes, size_t length) {
  size_t at = 0;
  while (length - at >= NLMSG_HDRLEN) {
    nlmsghdr header;
    std::memcpy(&header, bytes + at, sizeof header);
    if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > length - at) throw systemFailure(kWhat, EBADMSG);
    if (header.nlmsg_type == NLMSG_ERROR || header.nlmsg_type == NLMSG_DONE) {
      int32_t error = 0;
      if (header.nlmsg_len >= NLMSG_HDRLEN + sizeof error) {
        std::memcpy(&error, bytes + at + NLMSG_HDRLEN, sizeof error);
      }
      if (error == -ENOENT || error == -EOPNOTSUPP) throw Failure(kNetlink, "the kernel has no tcp_diag");
      if (error < 0) throw systemFailure(kWhat, -error);
      return true;
    }
    const size_t padded = NLMSG_ALIGN(header.nlmsg_len);
    at = padded < length - at ? at + padded : length;
  }
  return false;
}

}  // namespace

std::vector<uint8_t> dumpTcpSockets(uint8_t family, const std::string& netns, size_t limitBytes) {
  int error = 0;
  const FileDescriptor fd = socketIn(netns, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, error);
  if (error != 0) throw systemFailure(kWhat, error);
  sendRequest(fd.get(), family);

  std::vector<uint8_t> dump;
  const auto buffer = std::make_unique<std::array<uint8_t, kReceiveBytes>>();
  for (;;) {
    const size_t length = receiveSome(fd.get(), *buffer);
    const bool ends = dumpEnds(buffer->data(), length);
    if (dump.size() + length > limitBytes) throw Failure(kNetlink, "too many TCP sockets to list");
    dump.insert(dump.end(), buffer->begin(), buffer->begin() + length);
    dump.resize(NLMSG_ALIGN(dump.size()));
    if (ends) return dump;
  }
}

}  // namespace tcpcrypt
