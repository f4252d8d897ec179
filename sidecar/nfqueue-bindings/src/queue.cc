// A bound queue at work: packets in, verdicts out.
#include "queue.h"

#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cmath>
#include <utility>

#include "failure.h"
#include "netlink-message.h"
#include "wake.h"

namespace tcpcrypt {

namespace {

using Clock = std::chrono::steady_clock;

// A longer timeout is no limit.
constexpr double kForeverMs = 1e12;

/** Until the deadline, as ppoll wants it; never negative. */
timespec remaining(Clock::time_point deadline) {
  const auto left = std::max(deadline - Clock::now(), Clock::duration::zero());
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
  return {.tv_sec = nanoseconds / 1'000'000'000, .tv_nsec = nanoseconds % 1'000'000'000};
}

}  // namespace

size_t Queue::receive(double timeoutMs, uint8_t* ring, QueuedPacket* packets) {
  const bool forever = timeoutMs < 0 || timeoutMs > kForeverMs;
  const auto deadline =
      Clock::now() + std::chrono::nanoseconds(forever ? 0 : static_cast<int64_t>(timeoutMs * 1'000'000));
  for (;;) {
    if (const size_t count = take(ring, packets); count > 0) return count;
    pollfd waiting[] = {{.fd = socket_.get(), .events = POLLIN, .revents = 0},
                        {.fd = wakeFd_, .events = POLLIN, .revents = 0}};
    const timespec left = remaining(deadline);
    const int ready = ppoll(waiting, 2, forever ? nullptr : &left, nullptr);
    if (ready == 0) return 0;
    if (ready < 0) {
      if (errno == EINTR) continue;
      throw systemFailure("cannot wait for packets", errno);
    }
    if (waiting[1].revents != 0) {
      takeWake(wakeFd_);
      return take(ring, packets);
    }
  }
}

namespace {

/** What an event is for: the queue's number, and whether it is its wake-up. */
constexpr uint64_t kWake = 1 << 16;

void watch(int epoll, int fd, uint64_t what) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = what;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) throw systemFailure("cannot wait for a queue", errno);
}

/** As epoll_wait wants it: never shorter. */
int wholeMs(double timeoutMs) {
  if (timeoutMs < 0 || timeoutMs > INT_MAX) return -1;
  return static_cast<int>(std::ceil(timeoutMs));
}

}  // namespace

double monotonicMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1000 + static_cast<double>(now.tv_nsec) / 1e6;
}

Poller::Poller(std::vector<Queue*> queues) : queues_(std::move(queues)), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_.open()) throw systemFailure("cannot wait for queues", errno);
  for (size_t i = 0; i < queues_.size(); i++) {
    watch(epoll_.get(), queues_[i]->socket_.get(), i);
    watch(epoll_.get(), queues_[i]->wakeFd_, i | kWake);
  }
}

Poller::Events Poller::wait(double maxWaitMs, double dueMs) {
  Events result{.ready = 0, .woken = false};
  for (size_t i = 0; i < queues_.size(); i++) result.ready |= queues_[i]->early_.empty() ? 0 : 1u << i;
  double timeoutMs = result.ready != 0 ? 0 : maxWaitMs;
  if (timeoutMs != 0 && dueMs < kForeverMs) {
    const double untilDue = std::max(0.0, dueMs - monotonicMs());
    timeoutMs = timeoutMs < 0 ? untilDue : std::min(timeoutMs, untilDue);
  }
  epoll_event events[2 * kMaxQueues];
  int count;
  do {
    count = epoll_wait(epoll_.get(), events, 2 * kMaxQueues, wholeMs(timeoutMs));
  } while (count < 0 && errno == EINTR);
  if (count < 0) throw systemFailure("cannot wait for packets", errno);
  for (int at = 0; at < count; at++) {
    const uint64_t what = events[at].data.u64;
    if (what & kWake) {
      takeWake(queues_[what & ~kWake]->wakeFd_);
      result.woken = true;
    } else {
      result.ready |= 1u << what;
    }
  }
  return result;
}

size_t Queue::takeEarly(uint8_t* ring) {
  size_t slot = 0;
  for (; slot < options_.batch && !early_.empty(); slot++) {
    const std::vector<uint8_t>& message = early_.front();
    std::memcpy(ring + slot * kSlotBytes, message.data(), std::min(message.size(), kSlotBytes));
    headers_[slot].msg_len = static_cast<unsigned>(message.size());
    headers_[slot].msg_hdr.msg_flags = 0;
    early_.pop_front();
  }
  return slot;
}

void Queue::pointAt(uint8_t* ring) {
  if (ring == ring_) return;
  ring_ = ring;
  for (size_t slot = 0; slot < options_.batch; slot++) {
    vectors_[slot] = {.iov_base = ring + slot * kSlotBytes, .iov_len = kSlotBytes};
    headers_[slot] = {};
    headers_[slot].msg_hdr.msg_iov = &vectors_[slot];
    headers_[slot].msg_hdr.msg_iovlen = 1;
  }
}

/** Takes what the socket holds, up to a batch. 0: nothing is there. */
size_t Queue::take(uint8_t* ring, QueuedPacket* packets) {
  pointAt(ring);
  for (;;) {
    size_t messages = takeEarly(ring);
    if (messages == 0) {
      const int result = recvmmsg(socket_.get(), headers_.data(), options_.batch, MSG_DONTWAIT, nullptr);
      if (result < 0) {
        if (errno == EAGAIN) return 0;
        if (errno == EINTR) continue;
        if (errno != ENOBUFS) throw systemFailure("cannot receive packets", errno);
        stats_.overruns++;
        continue;
      }
      messages = static_cast<size_t>(result);
    }

    size_t count = 0;
    for (size_t slot = 0; slot < messages; slot++) {
      const size_t start = slot * kSlotBytes;
      if (headers_[slot].msg_hdr.msg_flags & MSG_TRUNC) {
        stats_.malformed++;
        continue;
      }
      const ParseCounts parsed =
          parseMessages(ring + start, headers_[slot].msg_len, packets + count, options_.batch - count);
      for (size_t i = 0; i < parsed.packets; i++) packets[count + i].offset += static_cast<uint32_t>(start);
      count += parsed.packets;
      stats_.verdictErrors += parsed.errors;
      stats_.malformed += parsed.malformed;
    }
    stats_.received += count;
    if (count > 0) return count;
  }
}

void Queue::verdict(uint32_t id, uint32_t verdict, std::optional<uint32_t> mark, const uint8_t* payload,
                    std::optional<size_t> payloadBytes) {
  makeRoom(payloadBytes ? attributeBytes(*payloadBytes) : 0);
  NetlinkMessage message = newVerdict(id, verdict, mark);
  if (payloadBytes) message.add(NFQA_PAYLOAD, payload, *payloadBytes);
  const size_t bytes = message.finish();
  addPiece(verdicts_.get() + verdictBytes_, bytes);
  verdictBytes_ += bytes;
  ends_.push_back({pieces_.size(), bytes});
}

void Queue::acceptFrom(uint32_t id, std::optional<uint32_t> mark, const uint8_t* payload, size_t payloadBytes) {
  static constexpr uint8_t kPadding[NLA_ALIGNTO] = {};
  makeRoom(NLA_HDRLEN);
  NetlinkMessage message = newVerdict(id, NF_ACCEPT, mark);
  message.addHead(NFQA_PAYLOAD, payloadBytes);
  const size_t elsewhere = NLA_ALIGN(payloadBytes);
  const size_t bytes = message.finish(elsewhere);
  addPiece(verdicts_.get() + verdictBytes_, bytes);
  addPiece(payload, payloadBytes);
  addPiece(kPadding, elsewhere - payloadBytes);
  verdictBytes_ += bytes;
  ends_.push_back({pieces_.size(), bytes + elsewhere});
}

/** Sends the batch if a verdict that takes so much beside its head and mark would not fit. */
void Queue::makeRoom(size_t bytes) {
  const size_t needed = kNfMessageHeaderBytes + attributeBytes(sizeof(nfqnl_msg_verdict_hdr)) +
                        attributeBytes(sizeof(uint32_t)) + bytes;
  if (needed > verdictCapacity_ - verdictBytes_) flush();
}

NetlinkMessage Queue::newVerdict(uint32_t id, uint32_t verdict, std::optional<uint32_t> mark) {
  nfqnl_msg_verdict_hdr header{};
  header.verdict = htonl(verdict);
  header.id = htonl(id);
  NetlinkMessage message(verdicts_.get() + verdictBytes_, NFNL_SUBSYS_QUEUE, NFQNL_MSG_VERDICT, 0, 0,
                         options_.number);
  message.add(NFQA_VERDICT_HDR, &header, sizeof header);
  if (mark) message.addBe32(NFQA_MARK, *mark);
  return message;
}

void Queue::addPiece(const uint8_t* bytes, size_t length) {
  if (length != 0) pieces_.push_back({.iov_base = const_cast<uint8_t*>(bytes), .iov_len = length});
}

void Queue::flush() {
  size_t limit = sendLimit_;
  for (size_t first = 0; first < ends_.size();) {
    const size_t from = first == 0 ? 0 : ends_[first - 1].pieces;
    size_t end = first;
    size_t bytes = 0;
    // One at least.
    do {
      bytes += ends_[end++].bytes;
    } while (end < ends_.size() && bytes + ends_[end].bytes <= limit && ends_[end].pieces - from <= IOV_MAX);
    msghdr message{};
    message.msg_iov = pieces_.data() + from;
    message.msg_iovlen = ends_[end - 1].pieces - from;
    if (sendmsg(socket_.get(), &message, 0) < 0) {
      if (errno == EINTR) continue;
      const bool tooMuch = errno == ENOBUFS || errno == ENOMEM || errno == EMSGSIZE;
      if (tooMuch && end - first > 1) {
        limit = bytes / 2;
        continue;
      }
      stats_.verdictErrors += end - first;
    }
    first = end;
  }
  verdictBytes_ = 0;
  pieces_.clear();
  ends_.clear();
}

void Queue::close() {
  if (socket_.open()) {
    flush();
    uint8_t buffer[kNfMessageHeaderBytes + attributeBytes(sizeof(nfqnl_msg_config_cmd))];
    NetlinkMessage unbind(buffer, NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG, 0, 0, options_.number);
    nfqnl_msg_config_cmd command{};
    command.command = NFQNL_CFG_CMD_UNBIND;
    unbind.add(NFQA_CFG_CMD, &command, sizeof command);
    send(socket_.get(), buffer, unbind.finish(), 0);
    socket_.reset();
  }
  if (wakeFd_ >= 0) {
    closeWake(wakeFd_);
    wakeFd_ = -1;
  }
}

}  // namespace tcpcrypt
