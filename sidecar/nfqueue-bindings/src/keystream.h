// The ciphers of a suite, addressed by stream offset (wire.md section 5, "Cipher"); crypto/keystream.ts is
// the same in TypeScript.
#pragma once

#include "openssl.h"

namespace tcpcrypt {

class Keystream {
 public:
  enum class Kind { kAes128Ctr, kAes256Ctr, kChaCha20 };

  /** `key` has 32 bytes, or 16 for AES-128, and is not kept. */
  Keystream(Kind kind, const uint8_t* key);
  /** Goes on with another key of the same kind. */
  void rekey(const uint8_t* key);

  /** XORs the keystream from stream offset `offset` on into `data`. */
  void apply(uint64_t offset, uint8_t* data, size_t length);

 private:
  Keystream(bool isChaCha20, CipherContext context) : isChaCha20_(isChaCha20), context_(std::move(context)) {}

  /** No offset in a stream. */
  static constexpr uint64_t kNowhere = UINT64_MAX;

  /** Makes `offset` the place from which the context goes on. */
  void seek(uint64_t offset);

  bool isChaCha20_;
  CipherContext context_;
  /** The stream offset from which the context goes on by itself. */
  uint64_t next_ = kNowhere;
};

}  // namespace tcpcrypt
