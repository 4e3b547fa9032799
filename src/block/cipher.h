/* Sectors of 512 bytes, each encrypted by itself with an IV made from its number, as LUKS and QEMU do it.
 * Pure: no I/O. What a cipher is made of lives in base/crypto.h, the store that reads through one in crypt.h.
 */
#ifndef KHO_BLOCK_CIPHER_H
#define KHO_BLOCK_CIPHER_H

#include "base/crypto.h"

#define CIPHER_SECTOR_BYTES 512

typedef enum {
    CIPHER_IV_PLAIN,   /* the low 32 bits of the sector's number, little endian */
    CIPHER_IV_PLAIN64, /* all of it */
    CIPHER_IV_ESSIV,   /* all of it, encrypted with a hash of the key */
} CipherIv;

typedef struct {
    CryptoAlgorithm algorithm;
    CryptoMode mode;
    CipherIv iv;
    CryptoHash iv_hash; /* ESSIV */
} CipherSpec;

/* Bytes of a key: twice as many for XTS. */
gsize cipher_spec_key_bytes(const CipherSpec *spec);

/* KHO_ERROR_UNSUPPORTED where the parts do not go together: XTS wants blocks of 16 bytes, and ESSIV a hash as
 * long as a key of the same family. */
gboolean cipher_spec_check(const CipherSpec *spec, GError **error);

typedef struct SectorCipher SectorCipher;

/* @key has cipher_spec_key_bytes; a copy is kept, and wiped by sector_cipher_free. The spec is checked. */
SectorCipher *sector_cipher_new(const CipherSpec *spec, const guint8 *key, GError **error);
/* In place; @len is a multiple of a sector, @sector the number of the first one. Any thread, also at the same
 * time. */
gboolean
sector_cipher_encrypt(SectorCipher *cipher, guint64 sector, guint8 *bytes, gsize len, GError **error);
gboolean
sector_cipher_decrypt(SectorCipher *cipher, guint64 sector, guint8 *bytes, gsize len, GError **error);
void sector_cipher_free(SectorCipher *cipher);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SectorCipher, sector_cipher_free)

#endif
