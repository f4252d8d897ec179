// Transforms as JavaScript sees them: numbers, for an object of its own costs a connection more than its keys do. Keys
// are copied out of the buffers given; `destroyTransform`, or the end of the thread, erases what was derived from them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "arguments.h"
#include "bindings.h"
#include "checksum.h"
#include "transform.h"

namespace tcpcrypt {

namespace {

/** JavaScript's numbers are exact up to here. */
constexpr double kMaxOffset = 9007199254740992;  // 2^53

/**
 * What a segment is, in one buffer, for an argument costs more than what it says; laid out as suites.ts writes it.
 * `transform`: the number of the one to use; `rest`: as for `open`; `assoc`: its first `assocBytes` bytes.
 */
struct SegmentDescription {
  double offset;
  double ackOffset;
  double transform;
  uint32_t tagAt;
  uint32_t dataAt;
  uint32_t end;
  uint32_t assocBytes;
  int32_t rest;
  uint8_t assoc[60];
};
static_assert(sizeof(SegmentDescription) == 104);

uint64_t toOffset(const Napi::CallbackInfo& info, double number, const char* name) {
  if (!(number >= 0 && number <= kMaxOffset) || number != std::floor(number)) {
    throw Napi::RangeError::New(info.Env(), std::string(name) + " must be a whole number from 0 to 2^53");
  }
  return static_cast<uint64_t>(number);
}

Transform& toTransform(const Napi::CallbackInfo& info, double number) {
  Transform* transform = Transform::find(toOffset(info, number, "transform"));
  if (transform == nullptr) throw Napi::Error::New(info.Env(), "an ASM was used after it was destroyed");
  return *transform;
}

/** (suite id, direction key); returns the transform's number. */
Napi::Value makeTransform(const Napi::CallbackInfo& info) {
  const Transform::Suite* suite = Transform::suite(toUint32(info[0], "suite"));
  if (suite == nullptr) throw Napi::RangeError::New(info.Env(), "there is no such suite");
  const uint8_t* key = toBytesOf(info[1], "directionKey", Transform::kDirectionKeyBytes);
  const uint64_t number = guarded(info.Env(), [&] { return Transform::make(*suite, key); });
  return Napi::Number::New(info.Env(), static_cast<double>(number));
}

/** (transform). One that is destroyed already stays so. */
Napi::Value destroyTransform(const Napi::CallbackInfo& info) {
  Transform::destroy(toOffset(info, toNumber(info[0], "transform"), "transform"));
  return info.Env().Undefined();
}

/** How many there are in this thread. */
Napi::Value countTransforms(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(Transform::count()));
}

/** (transform, offset, data) */
Napi::Value crypt(const Napi::CallbackInfo& info) {
  Transform& transform = toTransform(info, toNumber(info[0], "transform"));
  const uint64_t offset = toOffset(info, toNumber(info[1], "offset"), "offset");
  const Bytes data = toBytes(info[2], "data");
  guarded(info.Env(), [&] { transform.crypt(offset, data.data, data.length); });
  return info.Env().Undefined();
}

/** (transform, ciphertext, assoc, ackOffset, out of 16 bytes) */
Napi::Value tag(const Napi::CallbackInfo& info) {
  Transform& transform = toTransform(info, toNumber(info[0], "transform"));
  const Bytes ciphertext = toBytes(info[1], "ciphertext");
  const Bytes assoc = toBytes(info[2], "assoc");
  const uint64_t ackOffset = toOffset(info, toNumber(info[3], "ackOffset"), "ackOffset");
  uint8_t* out = toBytesOf(info[4], "out", kMacBytes);
  guarded(info.Env(), [&] {
    const Tag made = transform.tag({ciphertext.data, ciphertext.length}, {assoc.data, assoc.length}, ackOffset);
    std::copy(made.begin(), made.end(), out);
  });
  return info.Env().Undefined();
}

/** (bytes, description); a copy of the latter, which nothing changes any more, in `description`. */
SealedSegment toSegment(const Napi::CallbackInfo& info, SegmentDescription& description) {
  const Bytes bytes = toBytes(info[0], "bytes");
  std::memcpy(&description, toBytesOf(info[1], "description", sizeof description), sizeof description);
  const auto& [offset, ackOffset, transform, tagAt, dataAt, end, assocBytes, rest, assoc] = description;
  if (end > bytes.length || dataAt > end || tagAt > dataAt || dataAt - tagAt < kMacBytes) {
    throw Napi::RangeError::New(info.Env(), "tag and data must be in order and within the buffer");
  }
  if (assocBytes > sizeof assoc) throw Napi::RangeError::New(info.Env(), "assocBytes must be at most 60");
  if (rest < -1) throw Napi::RangeError::New(info.Env(), "rest must be -1 or a sum");
  return {.data = bytes.data + dataAt,
          .length = end - dataAt,
          .tag = bytes.data + tagAt,
          .assoc = {assoc, assocBytes},
          .offset = toOffset(info, offset, "offset"),
          .ackOffset = toOffset(info, ackOffset, "ackOffset")};
}

/** (segment as above); returns the Internet checksum's sum over the ciphertext, or 0 where `rest` is -1. */
Napi::Value seal(const Napi::CallbackInfo& info) {
  SegmentDescription description;
  const SealedSegment segment = toSegment(info, description);
  Transform& transform = toTransform(info, description.transform);
  guarded(info.Env(), [&] { transform.seal(segment); });
  return Napi::Number::New(info.Env(), description.rest < 0 ? 0 : checksum(segment.data, segment.length));
}

/**
 * (segment as above); its `rest` is the sum over all that the checksum covers but the data, or -1 where it is not
 * to be looked at. Returns the sum over the plaintext, or a negative number and nothing is changed: -1 the checksum
 * is wrong, -2 the tag is.
 */
Napi::Value open(const Napi::CallbackInfo& info) {
  SegmentDescription description;
  const SealedSegment segment = toSegment(info, description);
  Transform& transform = toTransform(info, description.transform);
  if (description.rest >= 0 &&
      checksum(segment.data, segment.length, static_cast<uint32_t>(description.rest)) != 0xffff) {
    return Napi::Number::New(info.Env(), -1);
  }
  const bool verified = guarded(info.Env(), [&] { return transform.open(segment); });
  return Napi::Number::New(info.Env(), verified ? checksum(segment.data, segment.length) : -2);
}

/** (key, message, out of 32 bytes) */
Napi::Value hmacFunction(const Napi::CallbackInfo& info) {
  const Bytes key = toBytes(info[0], "key");
  const Bytes message = toBytes(info[1], "message");
  uint8_t* out = toBytesOf(info[2], "out", SHA256_DIGEST_LENGTH);
  hmacSha256({key.data, key.length}, {message.data, message.length}, out);
  return info.Env().Undefined();
}

}  // namespace

Napi::Function defineHmac(Napi::Env env) { return Napi::Function::New<hmacFunction>(env, "hmac"); }

void defineTransforms(Napi::Env env, Napi::Object exports) {
  exports.Set("makeTransform", Napi::Function::New<makeTransform>(env, "makeTransform"));
  exports.Set("destroyTransform", Napi::Function::New<destroyTransform>(env, "destroyTransform"));
  exports.Set("countTransforms", Napi::Function::New<countTransforms>(env, "countTransforms"));
  exports.Set("crypt", Napi::Function::New<crypt>(env, "crypt"));
  exports.Set("tag", Napi::Function::New<tag>(env, "tag"));
  exports.Set("seal", Napi::Function::New<seal>(env, "seal"));
  exports.Set("open", Napi::Function::New<open>(env, "open"));
}

}  // namespace tcpcrypt
