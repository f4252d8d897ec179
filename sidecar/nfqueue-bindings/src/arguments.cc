#include "arguments.h"

#include <cmath>

namespace tcpcrypt {

uint32_t toUint32(const Napi::Value& value, const char* name, uint32_t max) {
  const double number = toNumber(value, name);
  if (!(number >= 0 && number <= max) || number != std::floor(number)) {
    throw Napi::RangeError::New(value.Env(), std::string(name) + " must be a whole number from 0 to " +
                                                 std::to_string(max));
  }
  return static_cast<uint32_t>(number);
}

std::optional<uint32_t> toOptionalUint32(const Napi::Value& value, const char* name) {
  if (value.IsUndefined()) return std::nullopt;
  return toUint32(value, name);
}

bool toBoolean(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) throw Napi::TypeError::New(value.Env(), std::string(name) + " must be a boolean");
  return value.As<Napi::Boolean>().Value();
}

double toNumber(const Napi::Value& value, const char* name) {
  double number = NAN;
  if (napi_get_value_double(value.Env(), value, &number) != napi_ok || std::isnan(number)) {
    throw Napi::TypeError::New(value.Env(), std::string(name) + " must be a number");
  }
  return number;
}

std::string toPath(const Napi::Value& value, const char* name) {
  if (value.IsUndefined()) return {};
  if (!value.IsString()) throw Napi::TypeError::New(value.Env(), std::string(name) + " must be a string");
  std::string path = value.As<Napi::String>().Utf8Value();
  if (path.empty() || path.find('\0') != std::string::npos) {
    throw Napi::RangeError::New(value.Env(), std::string(name) + " must be a path");
  }
  return path;
}

Bytes toBytes(const Napi::Value& value, const char* name) {
  const napi_env env = value.Env();
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0;
  void* data = nullptr;
  napi_value buffer = nullptr;
  bool isArrayBuffer = false;
  // Refused as well if it is no typed array.
  if (napi_get_typedarray_info(env, value, &type, &length, &data, &buffer, nullptr) != napi_ok ||
      type != napi_uint8_array || napi_is_arraybuffer(env, buffer, &isArrayBuffer) != napi_ok || !isArrayBuffer) {
    // Shared memory could change between check and use.
    throw Napi::TypeError::New(env, std::string(name) + " must be a Uint8Array over an ArrayBuffer of its own");
  }
  if (data == nullptr) length = 0;
  return {static_cast<uint8_t*>(data), length};
}

uint8_t* toBytesOf(const Napi::Value& value, const char* name, size_t length) {
  const Bytes bytes = toBytes(value, name);
  if (bytes.length != length) {
    throw Napi::RangeError::New(value.Env(), std::string(name) + " must have " + std::to_string(length) + " bytes");
  }
  return bytes.data;
}

}  // namespace tcpcrypt
