// What JavaScript hands over, checked. Nothing here runs JavaScript (no coercion, no getters), so what
// was checked cannot change before it is used. Pointers are valid until control returns to JavaScript.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "failure.h"

namespace tcpcrypt {

struct Bytes {
  uint8_t* data;
  size_t length;
};

/** A whole number in [0, max]. Throws a TypeError or a RangeError that names it. */
uint32_t toUint32(const Napi::Value& value, const char* name, uint32_t max = UINT32_MAX);

std::optional<uint32_t> toOptionalUint32(const Napi::Value& value, const char* name);

bool toBoolean(const Napi::Value& value, const char* name);

/** Any number but NaN. */
double toNumber(const Napi::Value& value, const char* name);

/** A path without NUL bytes; empty for undefined. */
std::string toPath(const Napi::Value& value, const char* name);

/** The bytes of a Uint8Array that is not over a SharedArrayBuffer; none if it is detached or out of bounds. */
Bytes toBytes(const Napi::Value& value, const char* name);

/** As `toBytes`, of just that length. Throws a RangeError for another. */
uint8_t* toBytesOf(const Napi::Value& value, const char* name, size_t length);

/** Runs `body` and turns a `Failure` into a JavaScript error with its code. */
template <typename Body>
auto guarded(Napi::Env env, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const Failure& failure) {
    Napi::Error error = Napi::Error::New(env, failure.what());
    error.Set("code", Napi::String::New(env, failure.code));
    throw error;
  }
}

}  // namespace tcpcrypt
