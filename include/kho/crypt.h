/* Encryption of qcow2 images: how one is to be encrypted, and what the header of an encrypted one says.
 * Passphrases are kho/secret.h's, images kho/image.h's. */
#ifndef KHO_CRYPT_H
#define KHO_CRYPT_H

#include <kho/error.h>

/* How a new image is encrypted. The names are QEMU's, and what is NULL gets its defaults. */
typedef struct KhoImageEncryption {
    const char *format;                     /* "luks" */
    const char *key_secret;                 /* which of the secrets is the passphrase */
    const char *cipher_alg, *cipher_mode;   /* aes-256, xts */
    const char *ivgen_alg, *ivgen_hash_alg; /* plain64, sha256 */
    const char *hash_alg;                   /* sha256 */
    guint64 iter_time_ms;                   /* how long a passphrase takes to try on this machine; 0: 2000 */
} KhoImageEncryption;

#define KHO_IMAGE_KEY_SLOTS 8

typedef struct KhoImageKeySlot {
    gboolean active;
    guint32 iterations, stripes; /* of an active one */
    guint64 key_offset_bytes;    /* from the LUKS header's start */
} KhoImageKeySlot;

/* The names are QEMU's. */
typedef struct KhoImageEncryptionInfo {
    const char *format;                   /* "luks", or "aes", and then nothing else is known */
    const char *cipher_alg, *cipher_mode; /* "aes-256", "xts" */
    const char *ivgen_alg, *ivgen_hash_alg /* or NULL */; /* "plain64" */
    const char *hash_alg;
    char uuid[40];
    guint64 payload_offset_bytes;
    guint32 master_key_iterations;
    KhoImageKeySlot slots[KHO_IMAGE_KEY_SLOTS];
} KhoImageEncryptionInfo;

#endif
