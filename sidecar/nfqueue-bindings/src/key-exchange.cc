#include "key-exchange.h"

#include <openssl/core_names.h>

namespace tcpcrypt {

namespace {

struct FreeKeyContext {
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, FreeKeyContext>;

KeyContext contextOf(EVP_PKEY* key) {
  return KeyContext(mustExist(EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr)));
}

Key fromScalar(const uint8_t* scalar) {
  return Key(mustExist(EVP_PKEY_new_raw_private_key_ex(nullptr, kX25519.name, nullptr, scalar, kX25519.randomBytes)));
}

/** Made anew from the seed, which takes half as long as to read one in. */
Key fromSeed(const uint8_t* seed) {
  const KeyContext context(mustExist(EVP_PKEY_CTX_new_from_name(nullptr, kMlKem768.name, nullptr)));
  mustSucceed(EVP_PKEY_keygen_init(context.get()));
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_ML_KEM_SEED, const_cast<uint8_t*>(seed), kMlKem768.randomBytes),
      OSSL_PARAM_construct_end()};
  mustSucceed(EVP_PKEY_CTX_set_params(context.get(), parameters));
  EVP_PKEY* key = nullptr;
  mustSucceed(EVP_PKEY_generate(context.get(), &key));
  return Key(key);
}

/** Null if the bytes are no public key. */
Key publicKeyOf(const KeyKind& kind, const uint8_t* bytes) {
  Key key(EVP_PKEY_new_raw_public_key_ex(nullptr, kind.name, nullptr, bytes, kind.publicBytes));
  if (!key) ERR_clear_error();
  return key;
}

bool agreeX25519(EVP_PKEY_CTX* context, const uint8_t* share, uint8_t* out) {
  const Key peer = publicKeyOf(kX25519, share);
  size_t length = kSharedSecretBytes;
  mustSucceed(EVP_PKEY_derive_init(context));
  const bool agreed = peer && EVP_PKEY_derive_set_peer_ex(context, peer.get(), 0) == 1 &&
                      EVP_PKEY_derive(context, out, &length) == 1;
  if (!agreed) ERR_clear_error();
  return agreed;
}

}  // namespace

PrivateKey::PrivateKey(const KeyKind& kind, const uint8_t* random)
    : kind_(kind), key_(&kind == &kX25519 ? fromScalar(random) : fromSeed(random)) {}

void PrivateKey::publicKey(uint8_t* out) const {
  size_t length = kind_.publicBytes;
  mustSucceed(EVP_PKEY_get_raw_public_key(key_.get(), out, &length));
}

bool PrivateKey::agree(const uint8_t* peer, uint8_t* out) const {
  const KeyContext context = contextOf(key_.get());
  if (&kind_ == &kX25519) return agreeX25519(context.get(), peer, out);
  size_t length = kSharedSecretBytes;
  mustSucceed(EVP_PKEY_decapsulate_init(context.get(), nullptr));
  mustSucceed(EVP_PKEY_decapsulate(context.get(), out, &length, peer, kMlKem768.peerBytes));
  return true;
}

bool encapsulate(const uint8_t* key, uint8_t* ciphertext, uint8_t* secret) {
  const Key peer = publicKeyOf(kMlKem768, key);
  if (!peer) return false;
  const KeyContext context = contextOf(peer.get());
  size_t ciphertextLength = kCiphertextBytes;
  size_t secretLength = kSharedSecretBytes;
  mustSucceed(EVP_PKEY_encapsulate_init(context.get(), nullptr));
  mustSucceed(EVP_PKEY_encapsulate(context.get(), ciphertext, &ciphertextLength, secret, &secretLength));
  return true;
}

}  // namespace tcpcrypt
