/* Hashes, key derivation, ciphers and random bytes, as libgcrypt has them. It is loaded by the first use:
 * most commands need none of it. Sectors and their IVs live in block/cipher.h, SHA-256 as text in digest.h.
 */
#ifndef KHO_BASE_CRYPTO_H
#define KHO_BASE_CRYPTO_H

#include <glib.h>
#include <kho/error.h>

typedef enum {
    CRYPTO_MD5,
    CRYPTO_SHA1,
    CRYPTO_SHA224,
    CRYPTO_SHA256,
    CRYPTO_SHA384,
    CRYPTO_SHA512,
    CRYPTO_RIPEMD160,
} CryptoHash;

#define CRYPTO_HASH_BYTES_MAX 64

/* Loads libgcrypt. KHO_ERROR_UNSUPPORTED where it cannot be; every function below but crypto_wipe wants it
 * loaded. Any thread. */
gboolean crypto_load(GError **error);

/* Bytes of a digest. */
gsize crypto_hash_bytes(CryptoHash hash);
/* @digest has crypto_hash_bytes. */
void crypto_hash(CryptoHash hash, const void *bytes, gsize len, guint8 *digest);

/* A digest of bytes as they come. */
typedef struct CryptoSum CryptoSum;
CryptoSum *crypto_sum_new(CryptoHash hash, GError **error);
void crypto_sum_feed(CryptoSum *sum, const void *bytes, gsize len);
/* Of what was fed so far; nothing more is fed then. Valid as long as @sum. */
const guint8 *crypto_sum_read(CryptoSum *sum);
void crypto_sum_free(CryptoSum *sum);

/* PBKDF2 (RFC 8018) with HMAC of @hash. */
typedef struct CryptoDerivation {
    CryptoHash hash;
    const guint8 *salt;
    gsize salt_bytes;
    guint32 iterations; /* > 0; how long it takes */
} CryptoDerivation;
gboolean crypto_derive(const CryptoDerivation *how, const void *passphrase, gsize len, guint8 *key,
                       gsize key_bytes, GError **error);

/* Unpredictable bytes, fit for keys. */
void crypto_random(void *bytes, gsize len);

/* Overwrites secrets so that no compiler leaves it out. */
void crypto_wipe(void *bytes, gsize len);

typedef enum {
    CRYPTO_AES128,
    CRYPTO_AES192,
    CRYPTO_AES256,
    CRYPTO_CAST5,
    CRYPTO_SERPENT128,
    CRYPTO_SERPENT192,
    CRYPTO_SERPENT256,
    CRYPTO_TWOFISH128,
    CRYPTO_TWOFISH192,
    CRYPTO_TWOFISH256,
} CryptoAlgorithm;

typedef enum { CRYPTO_ECB, CRYPTO_CBC, CRYPTO_XTS, CRYPTO_CTR } CryptoMode;

#define CRYPTO_BLOCK_BYTES_MAX 16
#define CRYPTO_KEY_BYTES_MAX   64 /* two keys of 32: XTS */

/* Of one key; XTS takes two. */
gsize crypto_algorithm_key_bytes(CryptoAlgorithm algorithm);
gsize crypto_algorithm_block_bytes(CryptoAlgorithm algorithm);

/* A key made ready. One thread's at a time. */
typedef struct CryptoCipher CryptoCipher;
/* KHO_ERROR_UNSUPPORTED where this system's libraries lack the cipher. */
CryptoCipher *crypto_cipher_new(CryptoAlgorithm algorithm, CryptoMode mode, const guint8 *key,
                                gsize key_bytes, GError **error);
/* In place. @iv has a block's bytes (ECB takes none); @len is a multiple of a block. */
void crypto_cipher_encrypt(CryptoCipher *cipher, const guint8 *iv, void *bytes, gsize len);
void crypto_cipher_decrypt(CryptoCipher *cipher, const guint8 *iv, void *bytes, gsize len);
void crypto_cipher_free(CryptoCipher *cipher);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CryptoCipher, crypto_cipher_free)

#endif
