// Ephemeral keys as JavaScript sees them. `destroy`, or the garbage collector, erases a private key.
#include <memory>

#include "arguments.h"
#include "bindings.h"
#include "key-exchange.h"

namespace tcpcrypt {

namespace {

class PrivateKeyBinding : public Napi::ObjectWrap<PrivateKeyBinding> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "PrivateKey",
                       {
                           InstanceMethod<&PrivateKeyBinding::agree>("agree"),
                           InstanceMethod<&PrivateKeyBinding::destroy>("destroy"),
                       });
  }

  /** (whether it is ML-KEM-768, not X25519; random; out for the public key) */
  explicit PrivateKeyBinding(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const KeyKind& kind = toBoolean(info[0], "isMlKem768") ? kMlKem768 : kX25519;
    const uint8_t* random = toBytesOf(info[1], "random", kind.randomBytes);
    uint8_t* out = toBytesOf(info[2], "publicKey", kind.publicBytes);
    guarded(info.Env(), [&] {
      key_ = std::make_unique<PrivateKey>(kind, random);
      key_->publicKey(out);
    });
  }

 private:
  /** (share or ciphertext, out of 32 bytes); false where there is no secret with it. */
  Napi::Value agree(const Napi::CallbackInfo& info) {
    if (!key_) throw Napi::Error::New(info.Env(), "a private key was used after it was destroyed");
    const uint8_t* peer = toBytesOf(info[0], "peer", key_->kind().peerBytes);
    uint8_t* out = toBytesOf(info[1], "secret", kSharedSecretBytes);
    return Napi::Boolean::New(info.Env(), guarded(info.Env(), [&] { return key_->agree(peer, out); }));
  }

  void destroy(const Napi::CallbackInfo& info) { key_.reset(); }

  std::unique_ptr<PrivateKey> key_;
};

/** (encapsulation key, out for the ciphertext, out of 32 bytes for the secret); false if the key may not be used. */
Napi::Value encapsulateFunction(const Napi::CallbackInfo& info) {
  const uint8_t* key = toBytesOf(info[0], "encapsulationKey", kMlKem768.publicBytes);
  uint8_t* ciphertext = toBytesOf(info[1], "ciphertext", kCiphertextBytes);
  uint8_t* secret = toBytesOf(info[2], "secret", kSharedSecretBytes);
  return Napi::Boolean::New(info.Env(), guarded(info.Env(), [&] { return encapsulate(key, ciphertext, secret); }));
}

}  // namespace

Napi::Function definePrivateKey(Napi::Env env) { return PrivateKeyBinding::define(env); }

Napi::Function defineEncapsulate(Napi::Env env) { return Napi::Function::New<encapsulateFunction>(env, "encapsulate"); }

}  // namespace tcpcrypt
