/* Passphrases of encrypted images, each under a name. They come from files and descriptors, or from a caller
 * that has them, and are overwritten in memory when they go. Which image one opens is said in kho/image.h. */
#ifndef KHO_SECRET_H
#define KHO_SECRET_H

#include <kho/error.h>

typedef struct KhoSecrets KhoSecrets;

KHO_PUBLIC KhoSecrets *kho_secrets_new(void);
KHO_PUBLIC void kho_secrets_free(KhoSecrets *secrets);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KhoSecrets, kho_secrets_free)

/* The most that one secret may have, in bytes. */
#define KHO_SECRET_BYTES_MAX 65536

typedef enum {
    KHO_SECRETS_FILES_ONLY = 0,
    KHO_SECRETS_DATA = 1 << 0, /* data= is admitted: whoever lists processes may see it */
} KhoSecretsFlags;

/**
 * kho_secrets_add:
 * @properties: "id=NAME,file=PATH", as QEMU's "--object secret," has it. Beside these: data=TEXT in place of
 *              the file, format=raw|base64, and keyid=NAME with iv=BASE64 where the secret is enciphered
 *              (AES-256-CBC) under another one, given before. A comma in a value is written twice.
 *
 * Reads the secret, all of it, a line break at its end too.
 *
 * Returns: FALSE with KHO_ERROR_INVALID, _EXISTS (the name), _NOT_FOUND, _DENIED, _IO; no message holds a
 * secret.
 */
KHO_PUBLIC gboolean kho_secrets_add(KhoSecrets *secrets, const char *properties, KhoSecretsFlags flags,
                                    GError **error);
/* The same, where the caller has the bytes: a copy is kept. */
KHO_PUBLIC gboolean kho_secrets_add_bytes(KhoSecrets *secrets, const char *id, const void *bytes, gsize len,
                                          GError **error);
KHO_PUBLIC gboolean kho_secrets_has(const KhoSecrets *secrets, const char *id);

#endif
