#include "mac.h"

#include <openssl/core_names.h>

#include <algorithm>

namespace tcpcrypt {

namespace {

constexpr size_t kSha256BlockBytes = 64;

/** The state after one block of the key XOR `pad` (RFC 2104). */
SHA256_CTX padded(const uint8_t* key, uint8_t pad) {
  uint8_t block[kSha256BlockBytes];
  std::fill(std::begin(block), std::end(block), pad);
  for (size_t i = 0; i < HmacSha256::kKeyBytes; i++) block[i] ^= key[i];
  SHA256_CTX state;
  mustSucceed(SHA256_Init(&state));
  mustSucceed(SHA256_Update(&state, block, sizeof block));
  OPENSSL_cleanse(block, sizeof block);
  return state;
}

EVP_MAC_CTX* newCmac() {
  EVP_MAC* cmac = mustExist(EVP_MAC_fetch(nullptr, OSSL_MAC_NAME_CMAC, nullptr));
  EVP_MAC_CTX* context = EVP_MAC_CTX_new(cmac);  // holds the method for as long as it needs it
  EVP_MAC_free(cmac);
  return mustExist(context);
}

}  // namespace

AesBlock::AesBlock(const uint8_t* key, size_t keyBytes)
    : context_(keyedCipher(keyBytes == 16 ? EVP_aes_128_ecb() : EVP_aes_256_ecb(), key)) {}

Tag AesBlock::encrypt(const Tag& block) {
  Tag out;
  update(context_.get(), out.data(), block.data(), block.size());
  return out;
}

HmacSha256::HmacSha256(const uint8_t* key) : inner_(padded(key, 0x36)), outer_(padded(key, 0x5c)) {}

HmacSha256::~HmacSha256() {
  OPENSSL_cleanse(&inner_, sizeof inner_);
  OPENSSL_cleanse(&outer_, sizeof outer_);
}

Tag HmacSha256::compute(ConstBytes first, ConstBytes second) {
  SHA256_CTX state = inner_;
  uint8_t digest[SHA256_DIGEST_LENGTH];
  SHA256_Update(&state, first.data, first.length);
  SHA256_Update(&state, second.data, second.length);
  SHA256_Final(digest, &state);
  state = outer_;
  SHA256_Update(&state, digest, sizeof digest);
  SHA256_Final(digest, &state);
  Tag tag;
  std::copy_n(digest, tag.size(), tag.begin());
  OPENSSL_cleanse(digest, sizeof digest);
  OPENSSL_cleanse(&state, sizeof state);
  return tag;
}

CmacAes128::CmacAes128(const uint8_t* key) : context_(newCmac()) {
  char cipher[] = "AES-128-CBC";
  const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, cipher, 0),
                                   OSSL_PARAM_construct_end()};
  mustSucceed(EVP_MAC_init(context_.get(), key, 16, parameters));
}

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
    : gmac_(keyedCipher(EVP_aes_128_gcm(), key)), aes_(key + 16, 16) {}

Tag GhashThenAes::compute(ConstBytes first, ConstBytes second) {
  static constexpr uint8_t kZeroIv[12] = {};
  EVP_CIPHER_CTX* gmac = gmac_.get();
  mustSucceed(EVP_EncryptInit_ex2(gmac, nullptr, nullptr, kZeroIv, nullptr));
  update(gmac, nullptr, first.data, first.length);
  update(gmac, nullptr, second.data, second.length);
  Tag hash;
  int written;
  mustSucceed(EVP_EncryptFinal_ex(gmac, nullptr, &written));
  mustSucceed(EVP_CIPHER_CTX_ctrl(gmac, EVP_CTRL_AEAD_GET_TAG, kMacBytes, hash.data()));
  return aes_.encrypt(hash);
}

}  // namespace tcpcrypt
