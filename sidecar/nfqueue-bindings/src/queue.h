// One NFQUEUE: the kernel's side of the binding, without JavaScript. Used by one thread at a time.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "file-descriptor.h"
#include "netlink-message.h"
#include "netlink-parse.h"

namespace tcpcrypt {

struct QueueOptions {
  uint16_t number = 0;
  bool gso = false;
  bool failOpen = false;
  uint32_t maxLength = 0;
  uint32_t copyRangeBytes = 0;
  /** Messages received, and full-size verdicts held, at a time. */
  uint32_t batch = 0;
  uint32_t receiveBufferBytes = 0;
  /** A path, or empty for the thread's own network namespace. */
  std::string netns;
};

struct QueueStats {
  uint64_t received = 0;
  /** How often the socket's buffer overran: packets were dropped or passed (fail-open) unseen. */
  uint64_t overruns = 0;
  /** Verdicts that the kernel refused or that could not be sent. */
  uint64_t verdictErrors = 0;
  /** Messages that were not understood. */
  uint64_t malformed = 0;
};

class Queue {
 public:
  /** Room for one message: 65531 bytes of packet and every attribute asked for. */
  static constexpr size_t kSlotBytes = 66560;
  /** The longest value that a netlink attribute can hold. */
  static constexpr size_t kMaxPayloadBytes = 65531;

  /** Opens and binds. Throws `Failure`. */
  explicit Queue(const QueueOptions& options);
  ~Queue() { close(); }
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  /**
   * Waits for packets, a wake-up or the timeout (negative: no limit). `ring` holds batch * kSlotBytes,
   * `packets` batch entries; offsets in them count from `ring`. Returns how many there are; throws `Failure`.
   */
  size_t receive(double timeoutMs, uint8_t* ring, QueuedPacket* packets);

  /** As `receive` without waiting. A wake-up stays for who waits. */
  size_t take(uint8_t* ring, QueuedPacket* packets);

  /** Adds a verdict to the batch, which is sent first if it is full. At most kMaxPayloadBytes of payload, copied. */
  void verdict(uint32_t id, uint32_t verdict, std::optional<uint32_t> mark, const uint8_t* payload,
               std::optional<size_t> payloadBytes);

  /** Accepts with a payload that is not copied: it must stay as it is until `flush`, which must come before long. */
  void acceptFrom(uint32_t id, std::optional<uint32_t> mark, const uint8_t* payload, size_t payloadBytes);

  /** Sends the batch in one system call (more only if the socket's buffer may not grow to hold it). */
  void flush();

  /** Sends the batch, unbinds and closes. May be called again. */
  void close();

  bool open() const { return socket_.open(); }
  int wakeFd() const { return wakeFd_; }
  uint32_t batch() const { return options_.batch; }
  const QueueStats& stats() const { return stats_; }

 private:
  void configure();
  void request(const uint8_t* message, size_t length, const char* what);
  int awaitAck(uint32_t sequence);
  size_t takeEarly(uint8_t* ring);
  void makeRoom(size_t bytes);
  NetlinkMessage newVerdict(uint32_t id, uint32_t verdict, std::optional<uint32_t> mark);
  void addPiece(const uint8_t* bytes, size_t length);
  void pointAt(uint8_t* ring);
  friend class Poller;

  QueueOptions options_;
  FileDescriptor socket_;
  int wakeFd_ = -1;
  QueueStats stats_;
  /** Packets that came before the answer to our configuration. */
  std::deque<std::vector<uint8_t>> early_;
  /** For `recvmmsg`, one for each slot of the ring that begins at `ring_`; only made anew when that has moved. */
  const uint8_t* ring_ = nullptr;
  std::vector<mmsghdr> headers_;
  std::vector<iovec> vectors_;
  /** The messages of the batch one after the other, but for payloads that lie elsewhere. */
  std::unique_ptr<uint8_t[]> verdicts_;
  size_t verdictCapacity_ = 0;
  size_t verdictBytes_ = 0;
  /** What is to be sent, in order, and where in it each message ends. */
  std::vector<iovec> pieces_;
  struct MessageEnd {
    size_t pieces;
    size_t bytes;
  };
  std::vector<MessageEnd> ends_;
  size_t sendLimit_ = 0;
};

/** Milliseconds of CLOCK_MONOTONIC, the clock of sidecar/runtime/clock.ts. */
double monotonicMs();

/** Waits for several queues at once, each of which outlives it. Used by one thread at a time. */
class Poller {
 public:
  static constexpr size_t kMaxQueues = 16;

  /** What ended the wait; `ready`: queues that may have packets, a bit each, the first one's the lowest. */
  struct Events {
    uint32_t ready;
    bool woken;
  };

  /** From 1 to kMaxQueues open ones. Throws `Failure`. */
  explicit Poller(std::vector<Queue*> queues);

  /**
   * Waits until one of the queues may have packets, a wake-up for any of them comes (it is consumed), `maxWaitMs` have
   * passed (0: does not wait; negative: no limit) or it is `dueMs` on `monotonicMs`' clock, either rounded up to
   * milliseconds. Throws `Failure`.
   */
  Events wait(double maxWaitMs, double dueMs);

 private:
  std::vector<Queue*> queues_;
  FileDescriptor epoll_;
};

}  // namespace tcpcrypt
