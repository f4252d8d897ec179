// Opening a queue: the socket, its buffers, and the configuration that the kernel must accept.
#include <linux/netfilter/nfnetlink_queue.h>
#include <poll.h>

#include <algorithm>
#include <array>

#include "failure.h"
#include "netlink-message.h"
#include "netns.h"
#include "queue.h"
#include "wake.h"

namespace tcpcrypt {

namespace {

constexpr int kAckTimeoutMs = 5000;
constexpr size_t kMaxVerdictBytes = kNfMessageHeaderBytes + attributeBytes(sizeof(nfqnl_msg_verdict_hdr)) +
                                    attributeBytes(sizeof(uint32_t)) + attributeBytes(Queue::kMaxPayloadBytes);
// What the kernel keeps back of a send buffer for a netlink message.
constexpr size_t kSendOverheadBytes = 32;

/** Sets a buffer's size past the system's limit if that is allowed, else up to it. Returns what it is now. */
size_t setBuffer(int fd, int force, int plain, size_t bytes) {
  const int wanted = static_cast<int>(std::min<size_t>(bytes, 1u << 30));
  if (setsockopt(fd, SOL_SOCKET, force, &wanted, sizeof wanted) != 0) {
    setsockopt(fd, SOL_SOCKET, plain, &wanted, sizeof wanted);
  }
  int actual = 0;
  socklen_t length = sizeof actual;
  if (getsockopt(fd, SOL_SOCKET, plain, &actual, &length) != 0) return 0;
  return static_cast<size_t>(actual);
}

void setNetlinkFlag(int fd, int option, int value) { setsockopt(fd, SOL_NETLINK, option, &value, sizeof value); }

void addCommand(NetlinkMessage& message, uint8_t command) {
  nfqnl_msg_config_cmd value{};
  value.command = command;
  message.add(NFQA_CFG_CMD, &value, sizeof value);
}

NetlinkMessage configuration(uint8_t* buffer, uint16_t queue, uint32_t sequence) {
  return {buffer, NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG, NLM_F_ACK, sequence, queue};
}

}  // namespace

Queue::Queue(const QueueOptions& options) : options_(options) {
  int error = 0;
  socket_ = socketIn(options.netns, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER, error);
  if (error == EPROTONOSUPPORT || error == EAFNOSUPPORT) {
    throw Failure(kNoNfqueue, "the kernel has no netfilter netlink");
  }
  if (error != 0) throw systemFailure("cannot open a netlink socket", error);
  const sockaddr_nl any{.nl_family = AF_NETLINK, .nl_pad = 0, .nl_pid = 0, .nl_groups = 0};
  if (bind(socket_.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any) != 0) {
    throw systemFailure("cannot bind a netlink socket", errno);
  }
  // Overruns are to be seen, and a refused verdict is not to come back with its 64 KiB of packet.
  setNetlinkFlag(socket_.get(), NETLINK_NO_ENOBUFS, 0);
  setNetlinkFlag(socket_.get(), NETLINK_CAP_ACK, 1);

  verdictCapacity_ = options.batch * kMaxVerdictBytes;
  verdicts_ = std::make_unique_for_overwrite<uint8_t[]>(verdictCapacity_);
  const size_t sendBuffer =
      setBuffer(socket_.get(), SO_SNDBUFFORCE, SO_SNDBUF, verdictCapacity_ + kSendOverheadBytes);
  sendLimit_ = sendBuffer > kSendOverheadBytes ? sendBuffer - kSendOverheadBytes : 0;
  setBuffer(socket_.get(), SO_RCVBUFFORCE, SO_RCVBUF, options.receiveBufferBytes);

  pieces_.reserve(3 * options.batch);
  ends_.reserve(options.batch);
  headers_.resize(options.batch);
  vectors_.resize(options.batch);
  configure();
  wakeFd_ = openWake();
}

void Queue::configure() {
  std::array<uint8_t, 256> buffer{};
  const std::string name = "queue " + std::to_string(options_.number);

  // A command that changes nothing, to tell the reasons apart: without the right to it the answer is
  // EPERM, and so it is for a queue that another socket has.
  NetlinkMessage probe = configuration(buffer.data(), options_.number, 1);
  addCommand(probe, NFQNL_CFG_CMD_PF_UNBIND);
  request(buffer.data(), probe.finish(), name.c_str());
  if (const int error = awaitAck(1); error != 0) {
    if (error == EPERM) throw Failure(kNotRoot, name + ": NFQUEUE needs the capability NET_ADMIN");
    throw Failure(kNoNfqueue, name + ": the kernel does not offer NFQUEUE: " + std::strerror(error));
  }

  // All in one message, so that no packet meets a queue that is bound and not yet set up.
  NetlinkMessage bind = configuration(buffer.data(), options_.number, 2);
  addCommand(bind, NFQNL_CFG_CMD_BIND);
  nfqnl_msg_config_params parameters{};
  parameters.copy_range = htonl(options_.copyRangeBytes);
  parameters.copy_mode = NFQNL_COPY_PACKET;
  bind.add(NFQA_CFG_PARAMS, &parameters, sizeof parameters);
  bind.addBe32(NFQA_CFG_QUEUE_MAXLEN, options_.maxLength);
  bind.addBe32(NFQA_CFG_MASK, NFQA_CFG_F_GSO | NFQA_CFG_F_FAIL_OPEN | NFQA_CFG_F_UID_GID | NFQA_CFG_F_CONNTRACK);
  bind.addBe32(NFQA_CFG_FLAGS,
               (options_.gso ? NFQA_CFG_F_GSO : 0) | (options_.failOpen ? NFQA_CFG_F_FAIL_OPEN : 0));
  request(buffer.data(), bind.finish(), name.c_str());
  if (const int error = awaitAck(2); error != 0) {
    if (error == EBUSY || error == EPERM) throw Failure(kQueueBusy, name + " is bound already");
    if (error == EOPNOTSUPP) throw Failure(kNoNfqueue, name + ": the kernel's NFQUEUE is too old");
    throw systemFailure("cannot bind " + name, error);
  }
}

void Queue::request(const uint8_t* message, size_t length, const char* what) {
  ssize_t sent;
  do {
    sent = send(socket_.get(), message, length, 0);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) throw systemFailure(std::string("cannot configure ") + what, errno);
}

int Queue::awaitAck(uint32_t sequence) {
  std::vector<uint8_t> buffer(kSlotBytes);
  for (;;) {
    pollfd waiting{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    const int ready = poll(&waiting, 1, kAckTimeoutMs);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return ready == 0 ? ETIMEDOUT : errno;
    const ssize_t length = recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (length < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      if (errno != ENOBUFS) return errno;
      stats_.overruns++;
      continue;
    }
    nlmsghdr header{};
    int32_t error = 0;
    if (static_cast<size_t>(length) >= sizeof header) std::memcpy(&header, buffer.data(), sizeof header);
    if (header.nlmsg_type != NLMSG_ERROR) {
      early_.emplace_back(buffer.begin(), buffer.begin() + length);
      continue;
    }
    if (header.nlmsg_seq != sequence || static_cast<size_t>(length) < NLMSG_HDRLEN + sizeof error) continue;
    std::memcpy(&error, buffer.data() + NLMSG_HDRLEN, sizeof error);
    return -error;
  }
}

}  // namespace tcpcrypt
