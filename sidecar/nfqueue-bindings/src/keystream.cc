#include "keystream.h"

namespace tcpcrypt {

namespace {

constexpr size_t kAesBlockBytes = 16;
constexpr size_t kChaCha20BlockBytes = 64;

const EVP_CIPHER* cipherOf(Keystream::Kind kind) {
  switch (kind) {
    case Keystream::Kind::kAes128Ctr:
      return cipherOf(Cipher::kAes128Ctr);
    case Keystream::Kind::kAes256Ctr:
      return cipherOf(Cipher::kAes256Ctr);
    default:
      return cipherOf(Cipher::kChaCha20);
  }
}

}  // namespace

Keystream::Keystream(Kind kind, const uint8_t* key)
    : isChaCha20_(kind == Kind::kChaCha20), context_(keyedCipher(cipherOf(kind), key)) {}

void Keystream::rekey(const uint8_t* key) {
  rekeyCipher(context_.get(), key);
  *this = Keystream(isChaCha20_, std::move(context_));
}

void Keystream::apply(uint64_t offset, uint8_t* data, size_t length) {
  if (length == 0) return;
  // Segments come in order for the most part, and to set an IV costs more than a short one's keystream.
  if (offset != next_) seek(offset);
  next_ = kNowhere;
  update(context_.get(), data, data, length);
  next_ = offset + length;
}

void Keystream::seek(uint64_t offset) {
  const size_t blockBytes = isChaCha20_ ? kChaCha20BlockBytes : kAesBlockBytes;
  uint64_t block = offset / blockBytes;
  uint8_t iv[16] = {};
  if (isChaCha20_) {
    // OpenSSL takes the counter's low bits first and a nonce behind it, which is zero.
    for (int i = 0; i < 8; i++, block >>= 8) iv[i] = static_cast<uint8_t>(block);
  } else {
    store64(iv + 8, block);
  }
  mustSucceed(EVP_EncryptInit_ex2(context_.get(), nullptr, nullptr, iv, nullptr));
  uint8_t skipped[kChaCha20BlockBytes] = {};
  update(context_.get(), skipped, skipped, offset % blockBytes);
  OPENSSL_cleanse(skipped, sizeof skipped);
}

}  // namespace tcpcrypt
