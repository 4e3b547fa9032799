/* What image/ itself asks of the passphrases that a caller gave. How they come in is kho/secret.h's. */
#ifndef KHO_IMAGE_SECRET_H
#define KHO_IMAGE_SECRET_H

#include <glib.h>
#include <kho/secret.h>

/* Borrowed from the secrets. */
typedef struct {
    const char *id;
    const guint8 *bytes;
    gsize len;
} Secret;

/* KHO_ERROR_NOT_FOUND names @id. */
gboolean secrets_find(const KhoSecrets *secrets, const char *id, Secret *found, GError **error);

/* The same, fit to be a passphrase: QEMU takes text only. KHO_ERROR_INVALID otherwise. */
gboolean secrets_find_passphrase(const KhoSecrets *secrets, const char *id, Secret *found, GError **error);

guint secrets_count(const KhoSecrets *secrets);
/* In the order in which they were given. */
Secret secrets_nth(const KhoSecrets *secrets, guint n);

#endif
