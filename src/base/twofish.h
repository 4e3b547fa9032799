/* Twofish with keys of 192 bits, which QEMU writes and libgcrypt lacks: nettle has it, and is loaded when
 * such an image is met. Everything else is crypto.h's. */
#ifndef KHO_BASE_TWOFISH_H
#define KHO_BASE_TWOFISH_H

#include "base/crypto.h"

#define TWOFISH192_KEY_BYTES 24

typedef struct Twofish192 Twofish192;

/* @key: one key, or two for XTS. KHO_ERROR_UNSUPPORTED where nettle cannot be loaded. */
Twofish192 *twofish192_new(CryptoMode mode, const guint8 *key, GError **error);
/* In place; @iv as crypto_cipher_encrypt has it. */
void twofish192_encrypt(Twofish192 *twofish, const guint8 *iv, guint8 *bytes, gsize len);
void twofish192_decrypt(Twofish192 *twofish, const guint8 *iv, guint8 *bytes, gsize len);
/* Wipes the keys. */
void twofish192_free(Twofish192 *twofish);

#endif
