// Queue as JavaScript sees it. The ring and the descriptors belong to JavaScript, so that no view of
// them can outlive its memory; they are looked up anew at each receive, for JavaScript may have moved
// their memory elsewhere (ArrayBuffer.prototype.transfer).
#include <cstring>
#include <memory>
#include <vector>

#include "arguments.h"
#include "bindings.h"
#include "queue.h"
#include "wake.h"

namespace tcpcrypt {

namespace {

static_assert(sizeof(QueuedPacket) == kDescriptorStride * sizeof(uint32_t));

constexpr uint32_t kMaxBatch = 1024;
constexpr uint32_t kMaxQueueLength = 1 << 20;
constexpr uint32_t kMaxReceiveBufferBytes = 1 << 30;
/** Marks the objects whose native part is a QueueBinding. */
constexpr napi_type_tag kQueueTag = {0x7463706372797074, 0x6e66717565756531};
enum Verdict : uint32_t { kDrop = 0, kAccept = 1, kRepeat = 4 };

/**
 * What JavaScript writes to accept a packet from the ring; the same words as in index.ts. In front of the first one
 * stands a word with their number, which is set back to 0 when they are read.
 */
struct Acceptance {
  uint32_t id;
  uint32_t start;
  uint32_t end;
  uint32_t hasMark;
  uint32_t mark;
};

/** The memory behind an ArrayBuffer of ours. */
uint8_t* memoryOf(const Napi::CallbackInfo& info, const Napi::ObjectReference& reference, size_t expected,
                  const char* otherwise) {
  void* data = nullptr;
  size_t length = 0;
  if (napi_get_arraybuffer_info(info.Env(), reference.Value(), &data, &length) != napi_ok || data == nullptr ||
      length != expected) {
    throw Napi::Error::New(info.Env(), otherwise);
  }
  return static_cast<uint8_t*>(data);
}

class QueueBinding : public Napi::ObjectWrap<QueueBinding> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Queue",
                       {
                           InstanceMethod<&QueueBinding::receive>("receive"),
                           InstanceMethod<&QueueBinding::verdict>("verdict"),
                           InstanceMethod<&QueueBinding::acceptAll>("acceptAll"),
                           InstanceMethod<&QueueBinding::flush>("flush"),
                           InstanceMethod<&QueueBinding::wake>("wake"),
                           InstanceMethod<&QueueBinding::stats>("stats"),
                           InstanceMethod<&QueueBinding::close>("close"),
                       });
  }

  /** (number, gso, failOpen, maxLength, copyRangeBytes, batch, receiveBufferBytes, netns) */
  explicit QueueBinding(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    QueueOptions options;
    options.number = static_cast<uint16_t>(toUint32(info[0], "number", UINT16_MAX));
    options.gso = toBoolean(info[1], "gso");
    options.failOpen = toBoolean(info[2], "failOpen");
    options.maxLength = toPositive(info[3], "maxLength", kMaxQueueLength);
    options.copyRangeBytes = toPositive(info[4], "copyRangeBytes", UINT16_MAX);
    options.batch = toPositive(info[5], "batch", kMaxBatch);
    options.receiveBufferBytes = toPositive(info[6], "receiveBufferBytes", kMaxReceiveBufferBytes);
    options.netns = toPath(info[7], "netns");
    guarded(info.Env(), [&] { queue_ = std::make_unique<Queue>(options); });

    const Napi::Env env = info.Env();
    const Napi::ArrayBuffer ring = Napi::ArrayBuffer::New(env, options.batch * Queue::kSlotBytes);
    const Napi::ArrayBuffer descriptors = Napi::ArrayBuffer::New(env, options.batch * sizeof(QueuedPacket));
    ring_ = Napi::Persistent(ring.As<Napi::Object>());
    descriptors_ = Napi::Persistent(descriptors.As<Napi::Object>());
    const Napi::ArrayBuffer acceptances = Napi::ArrayBuffer::New(env, acceptanceBytes(*queue_));
    acceptances_ = Napi::Persistent(acceptances.As<Napi::Object>());
    Napi::Object self = info.This().As<Napi::Object>();
    self.Set("ring", ring);
    self.Set("descriptors", descriptors);
    self.Set("acceptances", acceptances);
    self.Set("wakeFd", Napi::Number::New(env, queue_->wakeFd()));
    self.TypeTag(&kQueueTag);
  }

  /** A value, if it is an open queue. */
  static QueueBinding& of(const Napi::CallbackInfo& info, const Napi::Value& value) {
    if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kQueueTag)) {
      throw Napi::TypeError::New(info.Env(), "only queues can be polled");
    }
    QueueBinding& binding = *Unwrap(value.As<Napi::Object>());
    binding.queue(info);
    return binding;
  }

  /** As `acceptAll`, but from the ring without a copy, and sends all verdicts. */
  void flush(const Napi::CallbackInfo& info) {
    Queue& queue = this->queue(info);
    try {
      accept(info, [&queue](const Acceptance& entry, std::optional<uint32_t> mark, const uint8_t* payload) {
        queue.acceptFrom(entry.id, mark, payload, entry.end - entry.start);
      });
    } catch (...) {
      // The ring may change before another batch is sent.
      queue.flush();
      throw;
    }
    queue.flush();
  }

  /** Takes what is there, without waiting, into the ring. */
  size_t take(const Napi::CallbackInfo& info) {
    Queue& queue = this->queue(info);
    return queue.take(ring(info), packets(info));
  }

 private:
  static uint32_t toPositive(const Napi::Value& value, const char* name, uint32_t max) {
    const uint32_t number = toUint32(value, name, max);
    if (number == 0) throw Napi::RangeError::New(value.Env(), std::string(name) + " must not be 0");
    return number;
  }

  friend class PollerBinding;

  Queue& queue(const Napi::CallbackInfo& info) {
    if (!queue_ || !queue_->open()) throw Napi::Error::New(info.Env(), "the queue is closed");
    return *queue_;
  }

  static uint8_t* memory(const Napi::CallbackInfo& info, const Napi::ObjectReference& reference, size_t expected) {
    return memoryOf(info, reference, expected, "the queue's memory was detached");
  }

  uint8_t* ring(const Napi::CallbackInfo& info) { return memory(info, ring_, queue_->batch() * Queue::kSlotBytes); }

  QueuedPacket* packets(const Napi::CallbackInfo& info) {
    return reinterpret_cast<QueuedPacket*>(memory(info, descriptors_, queue_->batch() * sizeof(QueuedPacket)));
  }

  Napi::Value receive(const Napi::CallbackInfo& info) {
    const double timeoutMs = toNumber(info[0], "timeoutMs");
    Queue& queue = this->queue(info);
    const size_t count =
        guarded(info.Env(), [&] { return queue.receive(timeoutMs, ring(info), packets(info)); });
    return Napi::Number::New(info.Env(), static_cast<double>(count));
  }

  /** (id, verdict, mark | undefined, payload | undefined) */
  void verdict(const Napi::CallbackInfo& info) {
    const uint32_t id = toUint32(info[0], "id");
    const uint32_t verdict = toUint32(info[1], "verdict");
    if (verdict != kDrop && verdict != kAccept && verdict != kRepeat) {
      throw Napi::RangeError::New(info.Env(), "verdict must be 0 (drop), 1 (accept) or 4 (repeat)");
    }
    const std::optional<uint32_t> mark = toOptionalUint32(info[2], "mark");
    Bytes payload{nullptr, 0};
    std::optional<size_t> payloadBytes;
    if (!info[3].IsUndefined()) {
      payload = toBytes(info[3], "payload");
      if (payload.length == 0 || payload.length > Queue::kMaxPayloadBytes) {
        throw Napi::RangeError::New(info.Env(), "payload must have from 1 to 65531 bytes");
      }
      payloadBytes = payload.length;
    }
    queue(info).verdict(id, verdict, mark, payload.data, payloadBytes);
  }

  /** Gives the verdicts that stand in `acceptances`, with a copy of each packet: the ring may change then. */
  void acceptAll(const Napi::CallbackInfo& info) {
    accept(info, [this](const Acceptance& entry, std::optional<uint32_t> mark, const uint8_t* payload) {
      queue_->verdict(entry.id, kAccept, mark, payload, entry.end - entry.start);
    });
  }

  static size_t acceptanceBytes(const Queue& queue) {
    return sizeof(uint32_t) + queue.batch() * sizeof(Acceptance);
  }

  /** Hands each entry of `acceptances` to `give`. Entries up to the first that is wrong have had theirs. */
  template <typename Give>
  void accept(const Napi::CallbackInfo& info, Give&& give) {
    Queue& queue = this->queue(info);
    uint8_t* entries = memory(info, acceptances_, acceptanceBytes(queue));
    uint32_t count;
    std::memcpy(&count, entries, sizeof count);
    if (count == 0) return;
    std::memset(entries, 0, sizeof count);
    if (count > queue.batch()) throw Napi::RangeError::New(info.Env(), "there cannot be so many acceptances");
    const size_t ringBytes = queue.batch() * Queue::kSlotBytes;
    const uint8_t* ring = this->ring(info);
    for (uint32_t i = 0; i < count; i++) {
      Acceptance entry;
      std::memcpy(&entry, entries + sizeof count + i * sizeof entry, sizeof entry);
      if (entry.start >= entry.end || entry.end > ringBytes || entry.end - entry.start > Queue::kMaxPayloadBytes) {
        throw Napi::RangeError::New(info.Env(),
                                    "start and end must be in order and within the ring, 65531 bytes apart at most");
      }
      give(entry, entry.hasMark != 0 ? std::optional(entry.mark) : std::nullopt, ring + entry.start);
    }
  }

  void wake(const Napi::CallbackInfo& info) { tcpcrypt::wake(queue(info).wakeFd()); }

  Napi::Value stats(const Napi::CallbackInfo& info) {
    const QueueStats& stats = queue(info).stats();
    const Napi::Env env = info.Env();
    Napi::Object result = Napi::Object::New(env);
    result.Set("received", Napi::Number::New(env, static_cast<double>(stats.received)));
    result.Set("overruns", Napi::Number::New(env, static_cast<double>(stats.overruns)));
    result.Set("verdictErrors", Napi::Number::New(env, static_cast<double>(stats.verdictErrors)));
    result.Set("malformed", Napi::Number::New(env, static_cast<double>(stats.malformed)));
    return result;
  }

  void close(const Napi::CallbackInfo& info) {
    if (queue_) queue_->close();
  }

  std::unique_ptr<Queue> queue_;
  Napi::ObjectReference ring_;
  Napi::ObjectReference descriptors_;
  Napi::ObjectReference acceptances_;
};

/** Keeps its queues from being collected. */
class PollerBinding : public Napi::ObjectWrap<PollerBinding> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Poller", {InstanceMethod<&PollerBinding::next>("next")});
  }

  /** (...queues) */
  explicit PollerBinding(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    if (info.Length() < 1 || info.Length() > Poller::kMaxQueues) {
      throw Napi::RangeError::New(info.Env(), "from 1 to 16 queues can be polled");
    }
    std::vector<Queue*> queues;
    for (size_t i = 0; i < info.Length(); i++) {
      bindings_.push_back(&QueueBinding::of(info, info[i]));
      queues.push_back(&bindings_.back()->queue(info));
      references_.push_back(Napi::Persistent(info[i].As<Napi::Object>()));
    }
    guarded(info.Env(), [&] { poller_ = std::make_unique<Poller>(std::move(queues)); });
    const Napi::ArrayBuffer state = Napi::ArrayBuffer::New(info.Env(), stateBytes());
    state_ = Napi::Persistent(state.As<Napi::Object>());
    info.This().As<Napi::Object>().Set("state", state);
  }

 private:
  size_t stateBytes() const { return (2 + bindings_.size()) * sizeof(double); }

  /** (maxWaitMs, dueMs) */
  void next(const Napi::CallbackInfo& info) {
    const double maxWaitMs = toNumber(info[0], "maxWaitMs");
    const double dueMs = toNumber(info[1], "dueMs");
    for (QueueBinding* binding : bindings_) binding->flush(info);
    guarded(info.Env(), [&] {
      const Poller::Events events = poller_->wait(maxWaitMs, dueMs);
      double state[2 + Poller::kMaxQueues] = {0, events.woken ? 1.0 : 0.0};
      for (size_t i = 0; i < bindings_.size(); i++) {
        state[2 + i] = (events.ready & 1u << i) != 0 ? static_cast<double>(bindings_[i]->take(info)) : 0;
      }
      state[0] = monotonicMs();
      std::memcpy(memoryOf(info, state_, stateBytes(), "the poller's memory was detached"), state, stateBytes());
    });
  }

  std::vector<QueueBinding*> bindings_;
  std::vector<Napi::ObjectReference> references_;
  Napi::ObjectReference state_;
  std::unique_ptr<Poller> poller_;
};

}  // namespace

Napi::Function defineQueue(Napi::Env env) { return QueueBinding::define(env); }

Napi::Function definePoller(Napi::Env env) { return PollerBinding::define(env); }

}  // namespace tcpcrypt
