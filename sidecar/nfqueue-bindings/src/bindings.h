// The parts of the addon that JavaScript sees, each defined in a file of its own.
#pragma once

#include <napi.h>

#include <cstddef>

namespace tcpcrypt {

/** Numbers in a packet's descriptor. */
inline constexpr size_t kDescriptorStride = 8;

Napi::Function defineQueue(Napi::Env env);
Napi::Function definePoller(Napi::Env env);
Napi::Function defineRawSender(Napi::Env env);
void defineTransforms(Napi::Env env, Napi::Object exports);
Napi::Function defineHmac(Napi::Env env);
Napi::Function definePrivateKey(Napi::Env env);
Napi::Function defineEncapsulate(Napi::Env env);

}  // namespace tcpcrypt
