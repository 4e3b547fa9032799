#include "base/twofish.h"

#include "base/error.h"

#include <dlfcn.h>
#include <nettle/cbc.h>
#include <nettle/ctr.h>
#include <nettle/twofish.h>
#include <nettle/xts.h>
#include <string.h>

#define NETTLE_NAME "libnettle.so.8"
#define NETTLE_CALLS(CALL)                                                                                   \
    CALL(nettle_cbc_decrypt)                                                                                 \
    CALL(nettle_cbc_encrypt)                                                                                 \
    CALL(nettle_ctr_crypt)                                                                                   \
    CALL(nettle_twofish192_set_key)                                                                          \
    CALL(nettle_twofish_decrypt)                                                                             \
    CALL(nettle_twofish_encrypt)                                                                             \
    CALL(nettle_xts_decrypt_message)                                                                         \
    CALL(nettle_xts_encrypt_message)

#define CALL(name) __typeof__(name) *name;
static struct {
    NETTLE_CALLS(CALL)
} nettle;
#undef CALL

struct Twofish192 {
    CryptoMode mode;
    struct twofish_ctx key, tweak; /* tweak: XTS */
};

static gpointer
load_nettle(gpointer data)
{
    void *library = dlopen(NETTLE_NAME, RTLD_NOW | RTLD_LOCAL);
    gboolean whole = library != NULL;

#define CALL(name)                                                                                           \
    nettle.name = library ? (__typeof__(name) *) dlsym(library, #name) : NULL;                               \
    whole = whole && nettle.name;
    NETTLE_CALLS(CALL)
#undef CALL
    return GINT_TO_POINTER(whole);
}

Twofish192 *
twofish192_new(CryptoMode mode, const guint8 *key, GError **error)
{
    static GOnce once = G_ONCE_INIT;

    if (!g_once(&once, load_nettle, NULL)) {
        fail(error, KHO_ERROR_UNSUPPORTED, "%s cannot be used for Twofish with 192 bits: install libnettle8",
             NETTLE_NAME);
        return NULL;
    }
    Twofish192 *twofish = g_new0(Twofish192, 1);
    twofish->mode = mode;
    nettle.nettle_twofish192_set_key(&twofish->key, key);
    if (mode == CRYPTO_XTS)
        nettle.nettle_twofish192_set_key(&twofish->tweak, key + TWOFISH192_KEY_BYTES);
    return twofish;
}

void
twofish192_encrypt(Twofish192 *t, const guint8 *iv, guint8 *bytes, gsize len)
{
    nettle_cipher_func *encrypt = (nettle_cipher_func *) nettle.nettle_twofish_encrypt;
    guint8 chain[TWOFISH_BLOCK_SIZE];

    if (t->mode != CRYPTO_ECB)
        memcpy(chain, iv, sizeof chain);
    switch (t->mode) {
    case CRYPTO_ECB: nettle.nettle_twofish_encrypt(&t->key, len, bytes, bytes); break;
    case CRYPTO_CBC:
        nettle.nettle_cbc_encrypt(&t->key, encrypt, sizeof chain, chain, len, bytes, bytes);
        break;
    case CRYPTO_XTS:
        nettle.nettle_xts_encrypt_message(&t->key, &t->tweak, encrypt, chain, len, bytes, bytes);
        break;
    case CRYPTO_CTR: nettle.nettle_ctr_crypt(&t->key, encrypt, sizeof chain, chain, len, bytes, bytes); break;
    }
}

void
twofish192_decrypt(Twofish192 *t, const guint8 *iv, guint8 *bytes, gsize len)
{
    nettle_cipher_func *encrypt = (nettle_cipher_func *) nettle.nettle_twofish_encrypt;
    nettle_cipher_func *decrypt = (nettle_cipher_func *) nettle.nettle_twofish_decrypt;
    guint8 chain[TWOFISH_BLOCK_SIZE];

    if (t->mode != CRYPTO_ECB)
        memcpy(chain, iv, sizeof chain);
    switch (t->mode) {
    case CRYPTO_ECB: nettle.nettle_twofish_decrypt(&t->key, len, bytes, bytes); break;
    case CRYPTO_CBC:
        nettle.nettle_cbc_decrypt(&t->key, decrypt, sizeof chain, chain, len, bytes, bytes);
        break;
    case CRYPTO_XTS:
        nettle.nettle_xts_decrypt_message(&t->key, &t->tweak, decrypt, encrypt, chain, len, bytes, bytes);
        break;
    case CRYPTO_CTR: nettle.nettle_ctr_crypt(&t->key, encrypt, sizeof chain, chain, len, bytes, bytes); break;
    }
}

void
twofish192_free(Twofish192 *twofish)
{
    if (!twofish)
        return;
    crypto_wipe(twofish, sizeof *twofish);
    g_free(twofish);
}
