#include "block/cipher.h"

#include "base/error.h"

#include <string.h>

/* One thread's: a cipher remembers its IV. */
typedef struct {
    CryptoCipher *data;
    CryptoCipher *essiv; /* NULL: another kind of IV */
} Pair;

struct SectorCipher {
    CipherSpec spec;
    guint8 key[CRYPTO_KEY_BYTES_MAX];
    GMutex mutex;
    GPtrArray *idle; /* of Pair: under mutex */
};

gsize
cipher_spec_key_bytes(const CipherSpec *spec)
{
    return crypto_algorithm_key_bytes(spec->algorithm) * (spec->mode == CRYPTO_XTS ? 2 : 1);
}

/* The cipher that encrypts sector numbers: of the same family, its key as long as the hash. */
static gboolean
essiv_algorithm(const CipherSpec *spec, CryptoAlgorithm *algorithm)
{
    static const CryptoAlgorithm families[][3] = {
        { CRYPTO_AES128, CRYPTO_AES192, CRYPTO_AES256 },
        { CRYPTO_SERPENT128, CRYPTO_SERPENT192, CRYPTO_SERPENT256 },
        { CRYPTO_TWOFISH128, CRYPTO_TWOFISH192, CRYPTO_TWOFISH256 },
    };

    for (gsize f = 0; f < G_N_ELEMENTS(families); f++) {
        if (spec->algorithm < families[f][0] || spec->algorithm > families[f][2])
            continue;
        for (gsize i = 0; i < G_N_ELEMENTS(families[f]); i++)
            if (crypto_algorithm_key_bytes(families[f][i]) == crypto_hash_bytes(spec->iv_hash)) {
                *algorithm = families[f][i];
                return TRUE;
            }
    }
    return FALSE;
}

gboolean
cipher_spec_check(const CipherSpec *spec, GError **error)
{
    CryptoAlgorithm algorithm;

    if (spec->mode == CRYPTO_XTS && crypto_algorithm_block_bytes(spec->algorithm) != 16)
        return fail(error, KHO_ERROR_UNSUPPORTED, "the mode xts needs a cipher with blocks of 16 bytes");
    if (spec->iv == CIPHER_IV_ESSIV && !essiv_algorithm(spec, &algorithm))
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "the IV generator essiv needs a hash as long as one of the cipher's keys");
    return TRUE;
}

static void
pair_free(gpointer data)
{
    Pair *pair = data;

    crypto_cipher_free(pair->data);
    crypto_cipher_free(pair->essiv);
    g_free(pair);
}

static CryptoCipher *
essiv_new(const SectorCipher *cipher, GError **error)
{
    guint8 salt[CRYPTO_HASH_BYTES_MAX];
    CryptoAlgorithm algorithm;

    gboolean known = essiv_algorithm(&cipher->spec, &algorithm);
    g_assert(known);
    crypto_hash(cipher->spec.iv_hash, cipher->key, cipher_spec_key_bytes(&cipher->spec), salt);
    CryptoCipher *essiv =
        crypto_cipher_new(algorithm, CRYPTO_ECB, salt, crypto_hash_bytes(cipher->spec.iv_hash), error);
    crypto_wipe(salt, sizeof salt);
    return essiv;
}

static Pair *
pair_new(const SectorCipher *cipher, GError **error)
{
    const CipherSpec *spec = &cipher->spec;
    Pair *pair = g_new0(Pair, 1);

    pair->data =
        crypto_cipher_new(spec->algorithm, spec->mode, cipher->key, cipher_spec_key_bytes(spec), error);
    if (pair->data && spec->iv == CIPHER_IV_ESSIV)
        pair->essiv = essiv_new(cipher, error);
    if (pair->data && (spec->iv != CIPHER_IV_ESSIV || pair->essiv))
        return pair;
    pair_free(pair);
    return NULL;
}

static Pair *
take(SectorCipher *cipher, GError **error)
{
    {
        g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&cipher->mutex);
        if (cipher->idle->len > 0)
            return g_ptr_array_steal_index_fast(cipher->idle, cipher->idle->len - 1);
    }
    return pair_new(cipher, error);
}

static void
give_back(SectorCipher *cipher, Pair *pair)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&cipher->mutex);

    g_ptr_array_add(cipher->idle, pair);
}

SectorCipher *
sector_cipher_new(const CipherSpec *spec, const guint8 *key, GError **error)
{
    if (!cipher_spec_check(spec, error))
        return NULL;
    g_autoptr(SectorCipher) cipher = g_new0(SectorCipher, 1);
    cipher->spec = *spec;
    memcpy(cipher->key, key, cipher_spec_key_bytes(spec));
    g_mutex_init(&cipher->mutex);
    cipher->idle = g_ptr_array_new_with_free_func(pair_free);
    Pair *first = pair_new(cipher, error); /* what this system lacks is told here */
    if (!first)
        return NULL;
    give_back(cipher, first);
    return g_steal_pointer(&cipher);
}

static void
make_iv(const SectorCipher *cipher, const Pair *pair, guint64 sector, guint8 iv[CRYPTO_BLOCK_BYTES_MAX])
{
    guint64 number = GUINT64_TO_LE(cipher->spec.iv == CIPHER_IV_PLAIN ? sector & G_MAXUINT32 : sector);

    memset(iv, 0, CRYPTO_BLOCK_BYTES_MAX);
    memcpy(iv, &number, sizeof number);
    if (pair->essiv)
        crypto_cipher_encrypt(pair->essiv, NULL, iv, CRYPTO_BLOCK_BYTES_MAX);
}

typedef void (*CipherFunc)(CryptoCipher *cipher, const guint8 *iv, void *bytes, gsize len);

/* Each sector on its own, from @sector on. */
static gboolean
each_sector(SectorCipher *cipher, guint64 sector, guint8 *bytes, gsize len, CipherFunc change, GError **error)
{
    Pair *pair = take(cipher, error);
    guint8 iv[CRYPTO_BLOCK_BYTES_MAX];

    g_assert(len % CIPHER_SECTOR_BYTES == 0);
    if (!pair)
        return FALSE;
    for (gsize at = 0; at < len; at += CIPHER_SECTOR_BYTES) {
        make_iv(cipher, pair, sector++, iv);
        change(pair->data, iv, bytes + at, CIPHER_SECTOR_BYTES);
    }
    give_back(cipher, pair);
    return TRUE;
}

gboolean
sector_cipher_encrypt(SectorCipher *cipher, guint64 sector, guint8 *bytes, gsize len, GError **error)
{
    return each_sector(cipher, sector, bytes, len, crypto_cipher_encrypt, error);
}

gboolean
sector_cipher_decrypt(SectorCipher *cipher, guint64 sector, guint8 *bytes, gsize len, GError **error)
{
    return each_sector(cipher, sector, bytes, len, crypto_cipher_decrypt, error);
}

void
sector_cipher_free(SectorCipher *cipher)
{
    if (!cipher)
        return;
    g_clear_pointer(&cipher->idle, g_ptr_array_unref);
    g_mutex_clear(&cipher->mutex);
    crypto_wipe(cipher->key, sizeof cipher->key);
    g_free(cipher);
}
