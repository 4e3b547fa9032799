/* The key of an encrypted disk: how passphrases lead to it, and how it is spread over a slot's key material
 * (the anti-forensic splitter). Pure, but for the random bytes of a split. Reading and writing slots lives in
 * slot.h. Spec: docs/spec/luks.md. */
#ifndef KHO_LUKS_KEY_H
#define KHO_LUKS_KEY_H

#include "luks/header.h"

/* The disk's key. Wiped when it goes out of scope. */
typedef struct {
    guint8 bytes[CRYPTO_KEY_BYTES_MAX];
    gsize len;
} LuksKey;

void luks_key_clear(LuksKey *key);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(LuksKey, luks_key_clear)

/* What a person knows; borrowed. */
typedef struct {
    const void *bytes;
    gsize len;
} LuksPassphrase;

/* Spreads @key over @stripes times as many bytes, all of which are needed to get it back. */
void luks_split(CryptoHash hash, const LuksKey *key, guint stripes, guint8 *material);
void luks_merge(CryptoHash hash, const guint8 *material, guint stripes, LuksKey *key);

/* De- or enciphers a slot's material in place, with the key that @passphrase leads to. */
gboolean luks_unlock_material(const LuksHeader *header, guint slot, LuksPassphrase passphrase,
                              guint8 *material, GError **error);
gboolean luks_lock_material(const LuksHeader *header, guint slot, LuksPassphrase passphrase, guint8 *material,
                            GError **error);

/* Sets header->digest by its salt and iterations. */
gboolean luks_key_sign(LuksHeader *header, const LuksKey *key, GError **error);
/* Is @key the one that the header's digest is of? */
gboolean luks_key_matches(const LuksHeader *header, const LuksKey *key, gboolean *matches, GError **error);

/**
 * luks_measure:
 * @ms: how long a derivation of @key_bytes shall take on this machine
 *
 * Measures by the clock on the wall, which has nanoseconds everywhere; the time that a process spent, which
 * QEMU asks for, comes in ticks on some kernels. KHO_ERROR_INVALID where that would be more than
 * LUKS_ITERATIONS_MAX.
 */
gboolean luks_measure(CryptoHash hash, gsize key_bytes, guint64 ms, guint32 *iterations, GError **error);

#endif
