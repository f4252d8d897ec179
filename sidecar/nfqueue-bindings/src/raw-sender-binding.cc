// RawSender as JavaScript sees it.
#include <memory>

#include "arguments.h"
#include "bindings.h"
#include "raw-sender.h"

namespace tcpcrypt {

namespace {

class RawSenderBinding : public Napi::ObjectWrap<RawSenderBinding> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "RawSender",
                       {
                           InstanceMethod<&RawSenderBinding::send>("send"),
                           InstanceMethod<&RawSenderBinding::close>("close"),
                       });
  }

  /** (mark, netns) */
  explicit RawSenderBinding(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const uint32_t mark = toUint32(info[0], "mark");
    const std::string netns = toPath(info[1], "netns");
    guarded(info.Env(), [&] { sender_ = std::make_unique<RawSender>(mark, netns); });
  }

 private:
  /** (packet, ifindex); returns 0 or an errno. */
  Napi::Value send(const Napi::CallbackInfo& info) {
    const uint32_t ifindex = toOptionalUint32(info[1], "ifindex").value_or(0);
    const Bytes packet = toBytes(info[0], "packet");
    if (!sender_ || !sender_->open()) throw Napi::Error::New(info.Env(), "the sender is closed");
    return Napi::Number::New(info.Env(), sender_->send(packet.data, packet.length, ifindex));
  }

  void close(const Napi::CallbackInfo& info) {
    if (sender_) sender_->close();
  }

  std::unique_ptr<RawSender> sender_;
};

}  // namespace

Napi::Function defineRawSender(Napi::Env env) { return RawSenderBinding::define(env); }

}  // namespace tcpcrypt
