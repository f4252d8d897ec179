// What every user of OpenSSL here needs: the library is the one that Node.js carries and exports, its
// headers come with Node.js's npm package. Nothing below is left in OpenSSL's error queue, which
// node:crypto reads.
#pragma once

#include <openssl/err.h>
#include <openssl/evp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>

#include "failure.h"

namespace tcpcrypt {

struct ConstBytes {
  const uint8_t* data;
  size_t length;
};

/** `result` is what an OpenSSL function returned: 1, or else it failed, for want of memory above all. */
inline void mustSucceed(int result) {
  if (result == 1) return;
  ERR_clear_error();
  throw Failure(kInternal, "OpenSSL refused an operation");
}

template <typename T>
T* mustExist(T* made) {
  mustSucceed(made != nullptr);
  return made;
}

enum class Cipher { kAes128Ecb, kAes256Ecb, kAes128Ctr, kAes256Ctr, kAes128Gcm, kChaCha20 };

/** The library's implementation, fetched once: the search for it takes longer than a key's set-up. */
inline const EVP_CIPHER* cipherOf(Cipher cipher) {
  static constexpr const char* kNames[] = {"AES-128-ECB", "AES-256-ECB", "AES-128-CTR",
                                           "AES-256-CTR", "AES-128-GCM", "ChaCha20"};
  static const auto fetched = [] {
    std::array<EVP_CIPHER*, std::size(kNames)> all{};
    for (size_t i = 0; i < all.size(); i++) all[i] = mustExist(EVP_CIPHER_fetch(nullptr, kNames[i], nullptr));
    return all;
  }();
  return fetched[static_cast<size_t>(cipher)];
}

struct FreeCipher {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
/** OpenSSL erases what it derived from the key when it frees a context. */
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeCipher>;

/** A context that has its key and waits for an IV (or, in ECB, for data). */
inline CipherContext keyedCipher(const EVP_CIPHER* cipher, const uint8_t* key) {
  CipherContext context(mustExist(EVP_CIPHER_CTX_new()));
  mustSucceed(EVP_EncryptInit_ex2(context.get(), cipher, key, nullptr, nullptr));
  EVP_CIPHER_CTX_set_padding(context.get(), 0);
  return context;
}

/** Puts another key in the old one's place, of which nothing is left. */
inline void rekeyCipher(EVP_CIPHER_CTX* context, const uint8_t* key) {
  mustSucceed(EVP_EncryptInit_ex2(context, nullptr, key, nullptr, nullptr));
}

/** EVP takes lengths as int; more than this goes in pieces. A multiple of every block size. */
inline constexpr size_t kPieceBytes = 1 << 30;

/** EVP_EncryptUpdate over any length. `out` null: associated data. */
inline void update(EVP_CIPHER_CTX* context, uint8_t* out, const uint8_t* in, size_t length) {
  while (length > 0) {
    const size_t piece = length < kPieceBytes ? length : kPieceBytes;
    int written;
    mustSucceed(EVP_EncryptUpdate(context, out, &written, in, static_cast<int>(piece)));
    if (out != nullptr) out += piece;
    in += piece;
    length -= piece;
  }
}

inline void store64(uint8_t* at, uint64_t value) {
  for (int i = 7; i >= 0; i--, value >>= 8) at[i] = static_cast<uint8_t>(value);
}

}  // namespace tcpcrypt
