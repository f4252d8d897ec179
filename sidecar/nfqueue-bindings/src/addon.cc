// The addon: its classes and functions. Everything lives in the environment that loads it, so worker
// threads each have their own; only the list of wake-up descriptors (wake.cc) is common.
#include <sys/socket.h>

#include <vector>

#include "arguments.h"
#include "bindings.h"
#include "checksum.h"
#include "netlink-parse.h"
#include "sock-diag.h"
#include "wake.h"

namespace tcpcrypt {

namespace {

constexpr size_t kSockDiagLimitBytes = 64 << 20;
constexpr size_t kTestPackets = 64;

/** (fd): whether it is the wake-up descriptor of an open queue, which is then woken. */
Napi::Value wakeFunction(const Napi::CallbackInfo& info) {
  const uint32_t fd = toUint32(info[0], "fd", INT32_MAX);
  return Napi::Boolean::New(info.Env(), wake(static_cast<int>(fd)));
}

/** (bytes, start, end, initial) */
Napi::Value checksumFunction(const Napi::CallbackInfo& info) {
  const uint32_t start = toUint32(info[1], "start");
  const uint32_t end = toUint32(info[2], "end");
  const uint32_t initial = toOptionalUint32(info[3], "initial").value_or(0);
  const Bytes bytes = toBytes(info[0], "buffer");
  if (start > end || end > bytes.length) {
    throw Napi::RangeError::New(info.Env(), "start and end must be in order and within the buffer");
  }
  return Napi::Number::New(info.Env(), checksum(bytes.data + start, end - start, initial));
}

/** (packet) */
Napi::Value completeChecksumsFunction(const Napi::CallbackInfo& info) {
  const Bytes packet = toBytes(info[0], "packet");
  return Napi::Boolean::New(info.Env(), completeChecksums(packet.data, packet.length));
}

/** (family: 4 | 6, netns) */
Napi::Value sockDiagFunction(const Napi::CallbackInfo& info) {
  const uint32_t family = toUint32(info[0], "family");
  const std::string netns = toPath(info[1], "netns");
  if (family != 4 && family != 6) throw Napi::RangeError::New(info.Env(), "family must be 4 or 6");
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::vector<uint8_t> dump = dumpTcpSockets(family == 4 ? AF_INET : AF_INET6, netns, kSockDiagLimitBytes);
    return Napi::Buffer<uint8_t>::Copy(info.Env(), dump.data(), dump.size());
  });
}

/** (bytes): what the netlink parser makes of them: [errors, malformed, descriptors...]. */
Napi::Value parseForTest(const Napi::CallbackInfo& info) {
  const Bytes bytes = toBytes(info[0], "buffer");
  // Copied into memory of just that size, where the sanitiser sees a read outside it.
  const std::vector<uint8_t> exact(bytes.data, bytes.data + bytes.length);
  std::vector<QueuedPacket> packets(kTestPackets);
  const ParseCounts counts = parseMessages(exact.data(), exact.size(), packets.data(), packets.size());
  const Napi::Env env = info.Env();
  Napi::Array result = Napi::Array::New(env);
  uint32_t at = 0;
  result[at++] = Napi::Number::New(env, static_cast<double>(counts.errors));
  result[at++] = Napi::Number::New(env, static_cast<double>(counts.malformed));
  const auto* words = reinterpret_cast<const uint32_t*>(packets.data());
  for (size_t i = 0; i < counts.packets * kDescriptorStride; i++) {
    result[at++] = Napi::Number::New(env, words[i]);
  }
  return result;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("Queue", defineQueue(env));
  exports.Set("RawSender", defineRawSender(env));
  defineTransforms(env, exports);
  exports.Set("hmac", defineHmac(env));
  exports.Set("PrivateKey", definePrivateKey(env));
  exports.Set("encapsulate", defineEncapsulate(env));
  exports.Set("Poller", definePoller(env));
  exports.Set("wake", Napi::Function::New<wakeFunction>(env, "wake"));
  exports.Set("checksum", Napi::Function::New<checksumFunction>(env, "checksum"));
  exports.Set("completeChecksums", Napi::Function::New<completeChecksumsFunction>(env, "completeChecksums"));
  exports.Set("sockDiag", Napi::Function::New<sockDiagFunction>(env, "sockDiag"));
  exports.Set("parseForTest", Napi::Function::New<parseForTest>(env, "parseForTest"));
  return exports;
}

}  // namespace

NODE_API_MODULE(nfqueue, init)

}  // namespace tcpcrypt
