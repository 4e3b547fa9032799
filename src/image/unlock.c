/* Which passphrase opens which image. */
#include "base/error.h"
#include "image/image.h"
#include "image/secret.h"

static gboolean
try_secret(KhoImage *image, const KhoSecrets *secrets, const char *id, GError **error)
{
    Secret found;

    return secrets_find_passphrase(secrets, id, &found, error)
           && format_unlock(image->format, found.bytes, found.len, error);
}

gboolean
image_unlock(KhoImage *image, const KhoImageSource *source, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!image->format->encrypted || (!source->key_secret && secrets_count(source->secrets) == 0))
        return TRUE;
    if (source->key_secret)
        return try_secret(image, source->secrets, source->key_secret, error);
    for (guint i = 0; i < secrets_count(source->secrets); i++) {
        g_clear_error(&why);
        if (try_secret(image, source->secrets, secrets_nth(source->secrets, i).id, &why))
            return TRUE;
        if (why->code != KHO_ERROR_DENIED)
            break;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}
