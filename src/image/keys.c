#include <kho/image_keys.h>

#include "base/error.h"
#include "image/image.h"
#include "image/secret.h"
#include "luks/volume.h"
#include "qcow2/qcow2.h"

#define DEFAULT_ITERATION_MS 2000

/* *passphrase is set, and pointed to, where there is an @id. */
static gboolean
look_up(const KhoSecrets *secrets, const char *id, LuksPassphrase *passphrase, const LuksPassphrase **place,
        GError **error)
{
    Secret found;

    if (!id)
        return TRUE;
    if (!secrets_find_passphrase(secrets, id, &found, error))
        return FALSE;
    *passphrase = (LuksPassphrase){ found.bytes, found.len };
    *place = passphrase;
    return TRUE;
}

static gboolean
change_slots(FormatImage *image, const LuksChange *change, GError **error)
{
    return image->ops == &luks_volume_format ? luks_volume_change_keys(image, change, error)
                                             : qcow2_change_keys(image, change, error);
}

/* Which of the secrets opens the image: the one that is said, or whichever does. */
static gboolean
change_with(FormatImage *image, const KhoImageSource *source, LuksChange *change, GError **error)
{
    guint n = secrets_count(source->secrets);
    g_autoptr(GError) why = NULL;
    LuksPassphrase known;

    if (!change->add || source->key_secret)
        return look_up(source->secrets, source->key_secret, &known, &change->unlock, error)
               && change_slots(image, change, error);
    for (guint i = 0; i < n; i++) {
        g_clear_error(&why);
        if (look_up(source->secrets, secrets_nth(source->secrets, i).id, &known, &change->unlock, &why)
            && change_slots(image, change, &why))
            return TRUE;
        if (why->code != KHO_ERROR_DENIED)
            break;
    }
    if (n == 0)
        return fail(error, KHO_ERROR_DENIED, "%s is encrypted: its passphrase is needed (a secret)",
                    source->path);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

gboolean
kho_image_change_keys(const KhoImageSource *source, const KhoImageKeyChange *wanted, GError **error)
{
    LuksPassphrase new_one, old;
    LuksChange change = {
        .add = wanted->add,
        .slot = wanted->slot,
        .iteration_ms = wanted->iter_time_ms ? wanted->iter_time_ms : DEFAULT_ITERATION_MS,
        .force = wanted->force,
    };
    KhoImageSource alone = *source;

    if (!look_up(source->secrets, wanted->new_secret, &new_one, &change.new_one, error)
        || !look_up(source->secrets, wanted->old_secret, &old, &change.old, error))
        return FALSE;
    /* The data stay locked: what is tried here is tried once. */
    alone.secrets = NULL;
    alone.key_secret = NULL;
    alone.flags |= KHO_IMAGE_WRITE | KHO_IMAGE_NO_BACKING | KHO_IMAGE_NO_DATA;
    g_autoptr(KhoImage) image = kho_image_open_source(&alone, error);
    if (!image)
        return FALSE;
    if (!image->format->encrypted)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s is not encrypted: it has no key slots", source->path);
    gboolean done = change_with(image->format, source, &change, error);
    return kho_image_close(g_steal_pointer(&image), done ? error : NULL) && done;
}
