#include "base/crypto.h"

#include "base/error.h"
#include "base/twofish.h"

#include <dlfcn.h>
#include <gcrypt.h>
#include <string.h>

#define LIBGCRYPT_NAME "libgcrypt.so.20"
#define LIBGCRYPT_CALLS(CALL)                                                                                \
    CALL(gcry_check_version)                                                                                 \
    CALL(gcry_cipher_close)                                                                                  \
    CALL(gcry_cipher_decrypt)                                                                                \
    CALL(gcry_cipher_encrypt)                                                                                \
    CALL(gcry_cipher_open)                                                                                   \
    CALL(gcry_cipher_setctr)                                                                                 \
    CALL(gcry_cipher_setiv)                                                                                  \
    CALL(gcry_cipher_setkey)                                                                                 \
    CALL(gcry_control)                                                                                       \
    CALL(gcry_kdf_derive)                                                                                    \
    CALL(gcry_md_close)                                                                                      \
    CALL(gcry_md_hash_buffer)                                                                                \
    CALL(gcry_md_open)                                                                                       \
    CALL(gcry_md_read)                                                                                       \
    CALL(gcry_md_write)                                                                                      \
    CALL(gcry_randomize)                                                                                     \
    CALL(gcry_strerror)

#define CALL(name) __typeof__(name) *name;
static struct {
    LIBGCRYPT_CALLS(CALL)
} libgcrypt;
#undef CALL

static const struct {
    int id;
    guint8 bytes;
} hashes[] = {
    [CRYPTO_MD5] = { GCRY_MD_MD5, 16 },          [CRYPTO_SHA1] = { GCRY_MD_SHA1, 20 },
    [CRYPTO_SHA224] = { GCRY_MD_SHA224, 28 },    [CRYPTO_SHA256] = { GCRY_MD_SHA256, 32 },
    [CRYPTO_SHA384] = { GCRY_MD_SHA384, 48 },    [CRYPTO_SHA512] = { GCRY_MD_SHA512, 64 },
    [CRYPTO_RIPEMD160] = { GCRY_MD_RMD160, 20 },
};

/* libgcrypt's Twofish has no keys of 192 bits: that one is another library's. */
static const struct {
    int id;
    guint8 key_bytes, block_bytes;
} algorithms[] = {
    [CRYPTO_AES128] = { GCRY_CIPHER_AES128, 16, 16 },
    [CRYPTO_AES192] = { GCRY_CIPHER_AES192, 24, 16 },
    [CRYPTO_AES256] = { GCRY_CIPHER_AES256, 32, 16 },
    [CRYPTO_CAST5] = { GCRY_CIPHER_CAST5, 16, 8 },
    [CRYPTO_SERPENT128] = { GCRY_CIPHER_SERPENT128, 16, 16 },
    [CRYPTO_SERPENT192] = { GCRY_CIPHER_SERPENT192, 24, 16 },
    [CRYPTO_SERPENT256] = { GCRY_CIPHER_SERPENT256, 32, 16 },
    [CRYPTO_TWOFISH128] = { GCRY_CIPHER_TWOFISH128, 16, 16 },
    [CRYPTO_TWOFISH192] = { 0, 24, 16 },
    [CRYPTO_TWOFISH256] = { GCRY_CIPHER_TWOFISH, 32, 16 },
};

static const int modes[] = {
    [CRYPTO_ECB] = GCRY_CIPHER_MODE_ECB,
    [CRYPTO_CBC] = GCRY_CIPHER_MODE_CBC,
    [CRYPTO_XTS] = GCRY_CIPHER_MODE_XTS,
    [CRYPTO_CTR] = GCRY_CIPHER_MODE_CTR,
};

struct CryptoSum {
    gcry_md_hd_t handle;
};

struct CryptoCipher {
    CryptoMode mode;
    guint block_bytes;
    gcry_cipher_hd_t handle; /* NULL: twofish */
    Twofish192 *twofish;
};

static gpointer
load_libgcrypt(gpointer data)
{
    void *library = dlopen(LIBGCRYPT_NAME, RTLD_NOW | RTLD_LOCAL);
    gboolean whole = library != NULL;

#define CALL(name)                                                                                           \
    libgcrypt.name = library ? (__typeof__(name) *) dlsym(library, #name) : NULL;                            \
    whole = whole && libgcrypt.name;
    LIBGCRYPT_CALLS(CALL)
#undef CALL
    /* What libgcrypt's manual asks of a program before its first use. Its locked memory holds 32 KiB, too
     * little for the ciphers of a dozen threads; they are wiped when they are freed all the same. */
    if (!whole || !libgcrypt.gcry_check_version(NULL))
        return GINT_TO_POINTER(FALSE);
    libgcrypt.gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
    libgcrypt.gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
    return GINT_TO_POINTER(TRUE);
}

gboolean
crypto_load(GError **error)
{
    static GOnce once = G_ONCE_INIT;

    return g_once(&once, load_libgcrypt, NULL)
           || fail(error, KHO_ERROR_UNSUPPORTED,
                   "%s cannot be used for hashes and ciphers: install libgcrypt20", LIBGCRYPT_NAME);
}

gsize
crypto_hash_bytes(CryptoHash hash)
{
    return hashes[hash].bytes;
}

void
crypto_hash(CryptoHash hash, const void *bytes, gsize len, guint8 *digest)
{
    libgcrypt.gcry_md_hash_buffer(hashes[hash].id, digest, bytes, len);
}

CryptoSum *
crypto_sum_new(CryptoHash hash, GError **error)
{
    g_autofree CryptoSum *sum = g_new0(CryptoSum, 1);

    if (!crypto_load(error))
        return NULL;
    if (libgcrypt.gcry_md_open(&sum->handle, hashes[hash].id, 0) != 0) {
        fail(error, KHO_ERROR_UNSUPPORTED, "%s refuses a hash that is needed", LIBGCRYPT_NAME);
        return NULL;
    }
    return g_steal_pointer(&sum);
}

void
crypto_sum_feed(CryptoSum *sum, const void *bytes, gsize len)
{
    libgcrypt.gcry_md_write(sum->handle, bytes, len);
}

const guint8 *
crypto_sum_read(CryptoSum *sum)
{
    return libgcrypt.gcry_md_read(sum->handle, 0);
}

void
crypto_sum_free(CryptoSum *sum)
{
    if (!sum)
        return;
    libgcrypt.gcry_md_close(sum->handle);
    g_free(sum);
}

gboolean
crypto_derive(const CryptoDerivation *how, const void *passphrase, gsize len, guint8 *key, gsize key_bytes,
              GError **error)
{
    gcry_error_t wrong =
        libgcrypt.gcry_kdf_derive(passphrase, len, GCRY_KDF_PBKDF2, hashes[how->hash].id, how->salt,
                                  how->salt_bytes, how->iterations, key_bytes, key);

    return wrong == 0
           || fail(error, KHO_ERROR_UNSUPPORTED, "%s derives no key from the passphrase: %s", LIBGCRYPT_NAME,
                   libgcrypt.gcry_strerror(wrong));
}

void
crypto_random(void *bytes, gsize len)
{
    libgcrypt.gcry_randomize(bytes, len, GCRY_STRONG_RANDOM);
}

void
crypto_wipe(void *bytes, gsize len)
{
    if (bytes)
        explicit_bzero(bytes, len);
}

gsize
crypto_algorithm_key_bytes(CryptoAlgorithm algorithm)
{
    return algorithms[algorithm].key_bytes;
}

gsize
crypto_algorithm_block_bytes(CryptoAlgorithm algorithm)
{
    return algorithms[algorithm].block_bytes;
}

CryptoCipher *
crypto_cipher_new(CryptoAlgorithm algorithm, CryptoMode mode, const guint8 *key, gsize key_bytes,
                  GError **error)
{
    if (!crypto_load(error))
        return NULL;
    g_assert(key_bytes == algorithms[algorithm].key_bytes * (mode == CRYPTO_XTS ? 2u : 1u));
    g_autoptr(CryptoCipher) cipher = g_new0(CryptoCipher, 1);
    cipher->mode = mode;
    cipher->block_bytes = algorithms[algorithm].block_bytes;
    if (algorithm == CRYPTO_TWOFISH192) {
        cipher->twofish = twofish192_new(mode, key, error);
        return cipher->twofish ? g_steal_pointer(&cipher) : NULL;
    }
    gcry_error_t wrong =
        libgcrypt.gcry_cipher_open(&cipher->handle, algorithms[algorithm].id, modes[mode], 0);
    if (wrong == 0)
        wrong = libgcrypt.gcry_cipher_setkey(cipher->handle, key, key_bytes);
    if (wrong != 0) {
        fail(error, KHO_ERROR_UNSUPPORTED, "%s refuses a cipher: %s", LIBGCRYPT_NAME,
             libgcrypt.gcry_strerror(wrong));
        return NULL;
    }
    return g_steal_pointer(&cipher);
}

static void
set_iv(CryptoCipher *cipher, const guint8 *iv)
{
    gcry_error_t wrong = 0;

    if (cipher->mode == CRYPTO_CTR)
        wrong = libgcrypt.gcry_cipher_setctr(cipher->handle, iv, cipher->block_bytes);
    else if (cipher->mode != CRYPTO_ECB)
        wrong = libgcrypt.gcry_cipher_setiv(cipher->handle, iv, cipher->block_bytes);
    g_assert(wrong == 0);
}

void
crypto_cipher_encrypt(CryptoCipher *cipher, const guint8 *iv, void *bytes, gsize len)
{
    g_assert(len % cipher->block_bytes == 0);
    if (cipher->twofish) {
        twofish192_encrypt(cipher->twofish, iv, bytes, len);
        return;
    }
    set_iv(cipher, iv);
    gcry_error_t wrong = libgcrypt.gcry_cipher_encrypt(cipher->handle, bytes, len, NULL, 0);
    g_assert(wrong == 0);
}

void
crypto_cipher_decrypt(CryptoCipher *cipher, const guint8 *iv, void *bytes, gsize len)
{
    g_assert(len % cipher->block_bytes == 0);
    if (cipher->twofish) {
        twofish192_decrypt(cipher->twofish, iv, bytes, len);
        return;
    }
    set_iv(cipher, iv);
    gcry_error_t wrong = libgcrypt.gcry_cipher_decrypt(cipher->handle, bytes, len, NULL, 0);
    g_assert(wrong == 0);
}

void
crypto_cipher_free(CryptoCipher *cipher)
{
    if (!cipher)
        return;
    if (cipher->handle)
        libgcrypt.gcry_cipher_close(cipher->handle);
    twofish192_free(cipher->twofish);
    g_free(cipher);
}
