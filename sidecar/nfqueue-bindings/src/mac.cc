#include "mac.h"

#include <openssl/core_names.h>

#include <algorithm>

namespace tcpcrypt {

namespace {

constexpr size_t kSha256BlockBytes = 64;

/** The state after one block of the key XOR `pad` (RFC 2104). The key is at most a block. */
SHA256_CTX padded(ConstBytes key, uint8_t pad) {
  uint8_t block[kSha256BlockBytes];
  std::fill(std::begin(block), std::end(block), pad);
  for (size_t i = 0; i < key.length; i++) block[i] ^= key.data[i];
  SHA256_CTX state;
  mustSucceed(SHA256_Init(&state));
  mustSucceed(SHA256_Update(&state, block, sizeof block));
  OPENSSL_cleanse(block, sizeof block);
  return state;
}

EVP_MAC_CTX* newCmac() {
  static EVP_MAC* const cmac = mustExist(EVP_MAC_fetch(nullptr, OSSL_MAC_NAME_CMAC, nullptr));
  return mustExist(EVP_MAC_CTX_new(cmac));
}

/** Ends an HMAC whose inner and outer states are given, and erases them. */
void finish(SHA256_CTX& inner, SHA256_CTX& outer, uint8_t* out) {
  SHA256_Final(out, &inner);
  SHA256_Update(&outer, out, SHA256_DIGEST_LENGTH);
  SHA256_Final(out, &outer);
  OPENSSL_cleanse(&inner, sizeof inner);
  OPENSSL_cleanse(&outer, sizeof outer);
}

}  // namespace

AesBlock::AesBlock(const uint8_t* key, size_t keyBytes)
    : context_(keyedCipher(cipherOf(keyBytes == 16 ? Cipher::kAes128Ecb : Cipher::kAes256Ecb), key)) {}

Tag AesBlock::encrypt(const Tag& block) {
  Tag out;
  update(context_.get(), out.data(), block.data(), block.size());
  return out;
}

void AesBlock::encryptWith(const uint8_t in[16], uint8_t out[16], const void* context) {
  int written;
  EVP_EncryptUpdate(static_cast<EVP_CIPHER_CTX*>(const_cast<void*>(context)), out, &written, in, 16);
}

void hmacSha256(ConstBytes key, ConstBytes message, uint8_t* out) {
  uint8_t hashed[SHA256_DIGEST_LENGTH];
  if (key.length > kSha256BlockBytes) {
    SHA256(key.data, key.length, hashed);
    key = {hashed, sizeof hashed};
  }
  SHA256_CTX inner = padded(key, 0x36);
  SHA256_CTX outer = padded(key, 0x5c);
  SHA256_Update(&inner, message.data, message.length);
  finish(inner, outer, out);
  OPENSSL_cleanse(hashed, sizeof hashed);
}

HmacSha256::HmacSha256(const uint8_t* key)
    : inner_(padded({key, kKeyBytes}, 0x36)), outer_(padded({key, kKeyBytes}, 0x5c)) {}

HmacSha256::~HmacSha256() {
  OPENSSL_cleanse(&inner_, sizeof inner_);
  OPENSSL_cleanse(&outer_, sizeof outer_);
}

void HmacSha256::rekey(const uint8_t* key) {
  inner_ = padded({key, kKeyBytes}, 0x36);
  outer_ = padded({key, kKeyBytes}, 0x5c);
}

void HmacSha256::compute(ConstBytes first, ConstBytes second, uint8_t* out) const {
  SHA256_CTX state = inner_;
  SHA256_Update(&state, first.data, first.length);
  SHA256_Update(&state, second.data, second.length);
  SHA256_CTX outer = outer_;
  finish(state, outer, out);
}

Tag HmacSha256::compute(ConstBytes first, ConstBytes second) {
  uint8_t digest[SHA256_DIGEST_LENGTH];
  compute(first, second, digest);
  Tag tag;
  std::copy_n(digest, tag.size(), tag.begin());
  OPENSSL_cleanse(digest, sizeof digest);
  return tag;
}

CmacAes128::CmacAes128(const uint8_t* key) : context_(newCmac()) {
  char cipher[] = "AES-128-CBC";
  const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, cipher, 0),
                                   OSSL_PARAM_construct_end()};
  mustSucceed(EVP_MAC_init(context_.get(), key, 16, parameters));
}

void CmacAes128::rekey(const uint8_t* key) { mustSucceed(EVP_MAC_init(context_.get(), key, 16, nullptr)); }

Tag CmacAes128::compute(ConstBytes first, ConstBytes second) {
  Tag tag;
  size_t written;
  mustSucceed(EVP_MAC_init(context_.get(), nullptr, 0, nullptr));
  mustSucceed(EVP_MAC_update(context_.get(), first.data, first.length));
  mustSucceed(EVP_MAC_update(context_.get(), second.data, second.length));
  mustSucceed(EVP_MAC_final(context_.get(), tag.data(), &written, tag.size()));
  return tag;
}

GhashThenAes::GhashThenAes(const uint8_t* key)
    : hashKey_(key, 16),
      gcm_(mustExist(CRYPTO_gcm128_new(hashKey_.context(), &AesBlock::encryptWith))),
      aes_(key + 16, 16) {}

void GhashThenAes::rekey(const uint8_t* key) {
  hashKey_.rekey(key);
  CRYPTO_gcm128_init(gcm_.get(), hashKey_.context(), &AesBlock::encryptWith);
  aes_.rekey(key + 16);
}

Tag GhashThenAes::compute(ConstBytes first, ConstBytes second) {
  static constexpr uint8_t kZeroIv[12] = {};
  CRYPTO_gcm128_setiv(gcm_.get(), kZeroIv, sizeof kZeroIv);
  // They answer 0, or that there is too much.
  mustSucceed(CRYPTO_gcm128_aad(gcm_.get(), first.data, first.length) == 0);
  mustSucceed(CRYPTO_gcm128_aad(gcm_.get(), second.data, second.length) == 0);
  Tag hash;
  CRYPTO_gcm128_tag(gcm_.get(), hash.data(), hash.size());
  return aes_.encrypt(hash);
}

}  // namespace tcpcrypt
