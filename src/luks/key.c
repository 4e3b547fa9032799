#include "luks/key.h"

#include "base/error.h"
#include "base/num.h"

#include <string.h>

/* A measurement this long is some per cent from the truth; the quickest of some is what nobody disturbed, so
 * that a busy machine makes no weaker keys. */
#define MEASURE_US    (G_USEC_PER_SEC / 200)
#define MEASURE_TURNS 8
#define MEASURE_FIRST 1024u

void
luks_key_clear(LuksKey *key)
{
    crypto_wipe(key, sizeof *key);
}

/* Each hash-sized block of @block is replaced by the hash of its number and itself; the last may be short. */
static void
diffuse(CryptoHash hash, guint8 *block, gsize len)
{
    gsize step = crypto_hash_bytes(hash);
    guint8 in[4 + CRYPTO_HASH_BYTES_MAX], out[CRYPTO_HASH_BYTES_MAX];

    for (gsize at = 0; at < len; at += step) {
        gsize part = MIN(step, len - at);

        be32_store(in, (guint32) (at / step));
        memcpy(in + 4, block + at, part);
        crypto_hash(hash, in, 4 + part, out);
        memcpy(block + at, out, part);
    }
    crypto_wipe(in, sizeof in);
    crypto_wipe(out, sizeof out);
}

static void
xor_into(guint8 *to, const guint8 *with, gsize len)
{
    for (gsize i = 0; i < len; i++)
        to[i] ^= with[i];
}

/* What the stripes but the last one add up to. */
static void
add_up(CryptoHash hash, const guint8 *material, guint stripes, LuksKey *sum)
{
    memset(sum->bytes, 0, sum->len);
    for (guint s = 0; s + 1 < stripes; s++) {
        xor_into(sum->bytes, material + s * sum->len, sum->len);
        diffuse(hash, sum->bytes, sum->len);
    }
}

void
luks_split(CryptoHash hash, const LuksKey *key, guint stripes, guint8 *material)
{
    g_auto(LuksKey) sum = { .len = key->len };
    guint8 *last = material + (gsize) (stripes - 1) * key->len;

    crypto_random(material, (gsize) (stripes - 1) * key->len);
    add_up(hash, material, stripes, &sum);
    memcpy(last, key->bytes, key->len);
    xor_into(last, sum.bytes, key->len);
}

void
luks_merge(CryptoHash hash, const guint8 *material, guint stripes, LuksKey *key)
{
    add_up(hash, material, stripes, key);
    xor_into(key->bytes, material + (gsize) (stripes - 1) * key->len, key->len);
}

/* The cipher of a slot's material: the disk's, with a key of the passphrase's. Sectors count from 0. */
static SectorCipher *
slot_cipher(const LuksHeader *header, guint slot, LuksPassphrase passphrase, GError **error)
{
    const LuksSlot *s = &header->slots[slot];
    g_auto(LuksKey) key = { .len = header->key_bytes };
    LuksSpec spec;

    luks_header_derive(header, &spec);
    if (!crypto_load(error))
        return NULL;
    const CryptoDerivation how = { spec.hash, s->salt, sizeof s->salt, s->iterations };
    return crypto_derive(&how, passphrase.bytes, passphrase.len, key.bytes, key.len, error)
               ? sector_cipher_new(&spec.cipher, key.bytes, error)
               : NULL;
}

gboolean
luks_unlock_material(const LuksHeader *header, guint slot, LuksPassphrase passphrase, guint8 *material,
                     GError **error)
{
    g_autoptr(SectorCipher) cipher = slot_cipher(header, slot, passphrase, error);

    return cipher && sector_cipher_decrypt(cipher, 0, material, luks_material_bytes(header), error);
}

gboolean
luks_lock_material(const LuksHeader *header, guint slot, LuksPassphrase passphrase, guint8 *material,
                   GError **error)
{
    g_autoptr(SectorCipher) cipher = slot_cipher(header, slot, passphrase, error);

    return cipher && sector_cipher_encrypt(cipher, 0, material, luks_material_bytes(header), error);
}

static gboolean
digest_of_key(const LuksHeader *header, const LuksKey *key, guint8 digest[LUKS_DIGEST_BYTES], GError **error)
{
    LuksSpec spec;

    luks_header_derive(header, &spec);
    if (!crypto_load(error))
        return FALSE;
    const CryptoDerivation how = { spec.hash, header->digest_salt, sizeof header->digest_salt,
                                   header->digest_iterations };
    return crypto_derive(&how, key->bytes, key->len, digest, LUKS_DIGEST_BYTES, error);
}

gboolean
luks_key_sign(LuksHeader *header, const LuksKey *key, GError **error)
{
    return digest_of_key(header, key, header->digest, error);
}

gboolean
luks_key_matches(const LuksHeader *header, const LuksKey *key, gboolean *matches, GError **error)
{
    guint8 digest[LUKS_DIGEST_BYTES];

    if (!digest_of_key(header, key, digest, error))
        return FALSE;
    *matches = memcmp(digest, header->digest, sizeof digest) == 0;
    return TRUE;
}

static gboolean
time_derivation(const CryptoDerivation *how, guint8 *key, gsize key_bytes, gint64 *us, GError **error)
{
    gint64 begun = g_get_monotonic_time();

    if (!crypto_derive(how, "measure", 7, key, key_bytes, error))
        return FALSE;
    *us = MAX(g_get_monotonic_time() - begun, 1);
    return TRUE;
}

gboolean
luks_measure(CryptoHash hash, gsize key_bytes, guint64 ms, guint32 *iterations, GError **error)
{
    guint8 salt[LUKS_SALT_BYTES] = { 0 }, key[CRYPTO_KEY_BYTES_MAX];
    CryptoDerivation how = { hash, salt, sizeof salt, MEASURE_FIRST };
    gint64 us = 0, best = G_MAXINT64;
    guint64 wanted;

    *iterations = LUKS_ITERATIONS_MIN;
    if (ms == 0)
        return TRUE;
    if (!crypto_load(error))
        return FALSE;
    for (; us < MEASURE_US && how.iterations < LUKS_ITERATIONS_MAX; how.iterations *= 2)
        if (!time_derivation(&how, key, key_bytes, &us, error))
            return FALSE;
    for (guint turn = 0; turn < MEASURE_TURNS; turn++) {
        if (!time_derivation(&how, key, key_bytes, &us, error))
            return FALSE;
        best = MIN(best, us);
    }
    /* At most 2^28 / 2^0 a microsecond: the product is checked. */
    if (!num_mul((guint64) how.iterations * 1000 / (guint64) best, ms, &wanted)
        || wanted > LUKS_ITERATIONS_MAX)
        return fail(error, KHO_ERROR_INVALID,
                    "an iteration time of %" G_GUINT64_FORMAT " ms is too long: more than %u iterations", ms,
                    LUKS_ITERATIONS_MAX);
    *iterations = (guint32) MAX(wanted, LUKS_ITERATIONS_MIN);
    return TRUE;
}
