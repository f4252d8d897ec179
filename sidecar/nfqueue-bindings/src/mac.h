// The pseudo-random functions of a tag (wire.md section 5, "MAC"): 16 bytes over the concatenation of two
// inputs, which is never built. crypto/mac.ts is the same in TypeScript. No key is kept but in what is
// derived from it, which is erased at the end; nothing is allocated for a packet.
#pragma once

// Low-level SHA-256: a keyed state is copied in a hundred bytes, where EVP's HMAC allocates. Low-level GCM: EVP's sets
// itself up anew for each packet, by parameters with names.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/modes.h>
#include <openssl/sha.h>

#include <array>
#include <variant>

#include "openssl.h"

namespace tcpcrypt {

inline constexpr size_t kMacBytes = 16;
using Tag = std::array<uint8_t, kMacBytes>;

/** AES of single blocks. */
class AesBlock {
 public:
  /** `keyBytes`: 16 or 32. */
  AesBlock(const uint8_t* key, size_t keyBytes);
  void rekey(const uint8_t* key) { rekeyCipher(context_.get(), key); }
  Tag encrypt(const Tag& block);
  /** For `encryptWith`: it stays where it is when this is moved. */
  EVP_CIPHER_CTX* context() const { return context_.get(); }
  /** OpenSSL's block128_f. It has no way to fail, nor has a block under a key that is set. */
  static void encryptWith(const uint8_t in[16], uint8_t out[16], const void* context);

 private:
  CipherContext context_;
};

/** HMAC-SHA-256 (RFC 2104), 32 bytes to `out`, which may be a part of an input. */
void hmacSha256(ConstBytes key, ConstBytes message, uint8_t* out);

/** HMAC-SHA-256 with a key of 32 bytes, cut to 16 bytes. */
class HmacSha256 {
 public:
  static constexpr size_t kKeyBytes = 32;
  explicit HmacSha256(const uint8_t* key);
  HmacSha256(HmacSha256&& other) = default;
  ~HmacSha256();
  void rekey(const uint8_t* key);
  Tag compute(ConstBytes first, ConstBytes second);
  /** All 32 bytes, to `out`. */
  void compute(ConstBytes first, ConstBytes second, uint8_t* out) const;

 private:
  SHA256_CTX inner_;
  SHA256_CTX outer_;
};

/** CMAC with AES-128, RFC 4493. */
class CmacAes128 {
 public:
  explicit CmacAes128(const uint8_t* key);
  void rekey(const uint8_t* key);
  Tag compute(ConstBytes first, ConstBytes second);

 private:
  struct Free {
    void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
  };
  std::unique_ptr<EVP_MAC_CTX, Free> context_;
};

/** AES under k_tag of the GMAC under k_hash with a zero IV; the key is k_hash (16) | k_tag (16). */
class GhashThenAes {
 public:
  explicit GhashThenAes(const uint8_t* key);
  void rekey(const uint8_t* key);
  Tag compute(ConstBytes first, ConstBytes second);

 private:
  struct Free {
    /** Erases it. */
    void operator()(GCM128_CONTEXT* context) const { CRYPTO_gcm128_release(context); }
  };
  AesBlock hashKey_;
  std::unique_ptr<GCM128_CONTEXT, Free> gcm_;
  AesBlock aes_;
};

using SegmentMac = std::variant<HmacSha256, CmacAes128, GhashThenAes>;
using AckMac = std::variant<AesBlock, HmacSha256>;

}  // namespace tcpcrypt
