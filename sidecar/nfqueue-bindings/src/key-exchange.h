// Ephemeral keys of the usual key exchanges, X25519 (RFC 7748) and ML-KEM-768 (FIPS 203): what crypto/dh.ts and
// crypto/mlkem.ts do through KeyObjects of Node.js, which take as long as the arithmetic and live until the garbage
// collector comes. Without JavaScript. Used by one thread at a time.
#pragma once

#include "openssl.h"

namespace tcpcrypt {

struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
/** OpenSSL erases a private key as it frees it. */
using Key = std::unique_ptr<EVP_PKEY, FreeKey>;

inline constexpr size_t kSharedSecretBytes = 32;
inline constexpr size_t kCiphertextBytes = 1088;

/** What sets the two apart. A peer sends a share, or a ciphertext. */
struct KeyKind {
  const char* name;
  size_t randomBytes;
  size_t publicBytes;
  size_t peerBytes;
};
inline constexpr KeyKind kX25519 = {"X25519", 32, 32, 32};
inline constexpr KeyKind kMlKem768 = {"ML-KEM-768", 64, 1184, kCiphertextBytes};

class PrivateKey {
 public:
  /** From the scalar, or the seed d | z; `kind.randomBytes` of them. Throws `Failure`. */
  PrivateKey(const KeyKind& kind, const uint8_t* random);

  const KeyKind& kind() const { return kind_; }
  /** Writes `kind.publicBytes`. */
  void publicKey(uint8_t* out) const;
  /**
   * The secret shared with whoever sent `peer`, `kind.peerBytes`, to `out`. False where X25519 gives all zeros (RFC 7748,
   * section 6.1); a wrong ciphertext of ML-KEM gives a pseudo-random secret (FIPS 203, algorithm 18).
   */
  bool agree(const uint8_t* peer, uint8_t* out) const;

 private:
  const KeyKind& kind_;
  Key key_;
};

/**
 * ML-KEM-768: a secret and the ciphertext for it, with randomness of OpenSSL's own. False if the key, of 1184 bytes,
 * fails the modulus check of FIPS 203 section 7.2.
 */
bool encapsulate(const uint8_t* key, uint8_t* ciphertext, uint8_t* secret);

}  // namespace tcpcrypt
