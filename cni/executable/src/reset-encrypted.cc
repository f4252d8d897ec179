// Asks conntrack for the connections with our marks (ctnetlink) and has the kernel end their sockets (SOCK_DESTROY of
// sock_diag). Without a rewriter nothing can tell the peer: its own segments stay unanswered until it gives up.
#include "reset-encrypted.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <sys/socket.h>

#include <bit>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "file-descriptor.h"

namespace tcpcrypt {

namespace {

using Bytes = std::span<const std::byte>;

constexpr uint32_t kStateBits = 0b111;
constexpr uint32_t kStateEncrypted = 2;
constexpr uint32_t kStateEncryptedSuperSegment = 3;
constexpr size_t kReceiveBytes = 65536;
constexpr timeval kAnswerWithin{2, 0};

struct Tuple {
  uint8_t family;
  inet_diag_sockid ends{};
};

template <typename T>
std::optional<T> valueAt(Bytes bytes) {
  if (bytes.size() < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

/** The payload of one attribute, empty if it is not there. */
Bytes attribute(Bytes attributes, uint16_t type) {
  while (const auto head = valueAt<nlattr>(attributes)) {
    if (head->nla_len < sizeof(nlattr) || head->nla_len > attributes.size()) return {};
    if ((head->nla_type & NLA_TYPE_MASK) == type) {
      return attributes.subspan(sizeof(nlattr), head->nla_len - sizeof(nlattr));
    }
    attributes = attributes.subspan(std::min<size_t>(NLA_ALIGN(head->nla_len), attributes.size()));
  }
  return {};
}

/** The direction in which the connection was opened: local or remote is not known. */
std::optional<Tuple> tupleOf(Bytes entry, uint8_t family) {
  const Bytes original = attribute(entry, CTA_TUPLE_ORIG);
  const Bytes addresses = attribute(original, CTA_TUPLE_IP);
  const Bytes protocol = attribute(original, CTA_TUPLE_PROTO);
  if (valueAt<uint8_t>(attribute(protocol, CTA_PROTO_NUM)) != IPPROTO_TCP) return std::nullopt;
  const bool v4 = family == AF_INET;
  const Bytes source = attribute(addresses, v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC);
  const Bytes destination = attribute(addresses, v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST);
  const auto sourcePort = valueAt<uint16_t>(attribute(protocol, CTA_PROTO_SRC_PORT));
  const auto destinationPort = valueAt<uint16_t>(attribute(protocol, CTA_PROTO_DST_PORT));
  const size_t length = v4 ? 4 : 16;
  if (source.size() < length || destination.size() < length || !sourcePort || !destinationPort) return std::nullopt;
  Tuple tuple{family};
  std::memcpy(tuple.ends.idiag_src, source.data(), length);
  std::memcpy(tuple.ends.idiag_dst, destination.data(), length);
  tuple.ends.idiag_sport = *sourcePort;
  tuple.ends.idiag_dport = *destinationPort;
  tuple.ends.idiag_cookie[0] = tuple.ends.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return tuple;
}

Tuple reversed(const Tuple& tuple) {
  Tuple other = tuple;
  std::memcpy(other.ends.idiag_src, tuple.ends.idiag_dst, sizeof(tuple.ends.idiag_src));
  std::memcpy(other.ends.idiag_dst, tuple.ends.idiag_src, sizeof(tuple.ends.idiag_src));
  std::swap(other.ends.idiag_sport, other.ends.idiag_dport);
  return other;
}

bool isEncrypted(uint32_t mark, int shift) {
  const uint32_t state = (mark >> shift) & kStateBits;
  return state == kStateEncrypted || state == kStateEncryptedSuperSegment;
}

FileDescriptor openNetlink(int protocol) {
  FileDescriptor fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  // The kernel answers at once; this is for one that does not.
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kAnswerWithin, sizeof(kAnswerWithin));
  return fd;
}

std::vector<Tuple> encryptedConnections(int shift) {
  const FileDescriptor fd = openNetlink(NETLINK_NETFILTER);
  struct {
    nlmsghdr head;
    nfgenmsg family;
  } request{};
  request.head.nlmsg_len = sizeof(request);
  request.head.nlmsg_type = (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET;
  request.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  std::vector<Tuple> found;
  if (send(fd.get(), &request, sizeof(request), 0) < 0) return found;
  std::vector<std::byte> buffer(kReceiveBytes);
  for (;;) {
    const ssize_t received = recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (received <= 0) return found;
    Bytes messages(buffer.data(), static_cast<size_t>(received));
    while (const auto head = valueAt<nlmsghdr>(messages)) {
      if (head->nlmsg_type == NLMSG_DONE || head->nlmsg_type == NLMSG_ERROR) return found;
      if (head->nlmsg_len < NLMSG_HDRLEN || head->nlmsg_len > messages.size()) return found;
      const Bytes content = messages.subspan(NLMSG_HDRLEN, head->nlmsg_len - NLMSG_HDRLEN);
      messages = messages.subspan(std::min<size_t>(NLMSG_ALIGN(head->nlmsg_len), messages.size()));
      const auto family = valueAt<nfgenmsg>(content);
      if (!family) continue;
      const Bytes entry = content.subspan(sizeof(nfgenmsg));
      const auto mark = valueAt<uint32_t>(attribute(entry, CTA_MARK));
      if (!mark || !isEncrypted(ntohl(*mark), shift)) continue;
      if (const auto tuple = tupleOf(entry, family->nfgen_family)) found.push_back(*tuple);
    }
  }
}

bool destroy(int fd, const Tuple& tuple) {
  struct {
    nlmsghdr head;
    inet_diag_req_v2 socket;
  } request{};
  request.head.nlmsg_len = sizeof(request);
  request.head.nlmsg_type = SOCK_DESTROY;
  request.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  request.socket.sdiag_family = tuple.family;
  request.socket.sdiag_protocol = IPPROTO_TCP;
  request.socket.idiag_states = ~0u;
  request.socket.id = tuple.ends;
  if (send(fd, &request, sizeof(request), 0) < 0) return false;
  struct {
    nlmsghdr head;
    nlmsgerr error;
  } answer{};
  const ssize_t length = recv(fd, &answer, sizeof(answer), 0);
  return length >= static_cast<ssize_t>(sizeof(answer.head) + sizeof(int)) && answer.head.nlmsg_type == NLMSG_ERROR &&
         answer.error.error == 0;
}

}  // namespace

int resetEncrypted(uint32_t markMask) {
  int ended = 0;
  const auto connections = encryptedConnections(std::countr_zero(markMask));
  const FileDescriptor fd = openNetlink(NETLINK_SOCK_DIAG);
  for (const Tuple& tuple : connections) {
    if (destroy(fd.get(), tuple)) ended++;
    if (destroy(fd.get(), reversed(tuple))) ended++;
  }
  return ended;
}

}  // namespace tcpcrypt
