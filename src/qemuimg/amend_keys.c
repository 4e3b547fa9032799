#include "qemuimg/amend_keys.h"

#include "qemuimg/object.h"
#include "qemuimg/output.h"

#include <kho/image_keys.h>

static const char *const words[] = { "state", "new-secret", "old-secret", "keyslot", "iter-time" };

static const char *
word(const QimgOptions *options, const char *prefix, const char *name)
{
    g_autofree char *whole = g_strconcat(prefix, name, NULL);

    return qimg_options_given(options, whole);
}

static guint64
number(const QimgOptions *options, const char *prefix, const char *name)
{
    g_autofree char *whole = g_strconcat(prefix, name, NULL);

    return qimg_options_number(options, whole);
}

gboolean
qimg_amend_has_keys(const QimgOptions *options, const char *prefix)
{
    gboolean any = FALSE;

    for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
        any = any || word(options, prefix, words[i]);
    return any;
}

static gboolean
read_state(const char *state, KhoImageKeyChange *change)
{
    change->add = g_strcmp0(state, "active") == 0;
    if (!state)
        qimg_error("Parameter 'state' is missing");
    else if (!change->add && !g_str_equal(state, "inactive"))
        qimg_error("Parameter 'state' does not accept value '%s'", state);
    else
        return TRUE;
    return FALSE;
}

/* What the words say by themselves. QEMU takes the lower half of a slot's number. */
static gboolean
read_change(const QimgOptions *options, const char *prefix, KhoImageKeyChange *change)
{
    const char *iter_time = word(options, prefix, "iter-time");

    if (!read_state(word(options, prefix, "state"), change))
        return FALSE;
    change->new_secret = word(options, prefix, "new-secret");
    change->old_secret = word(options, prefix, "old-secret");
    change->slot = KHO_IMAGE_ANY_KEY_SLOT;
    if (word(options, prefix, "keyslot"))
        change->slot = (guint32) number(options, prefix, "keyslot");
    if (iter_time) /* 0 is the least there is, not what is usual */
        change->iter_time_ms = MAX(number(options, prefix, "iter-time"), 1);
    /* Before any secret is looked for. */
    if (!change->add && change->new_secret)
        qimg_error("'new-secret' must not be given when erasing keyslots");
    else if (!change->add && iter_time)
        qimg_error("'iter-time' must not be given when erasing keyslots");
    else
        return TRUE;
    return FALSE;
}

gboolean
qimg_amend_keys(const QimgSource *source, const QimgOptions *options, const char *prefix, gboolean force)
{
    KhoImageKeyChange change = { .force = force };
    const KhoImageSource open = { .path = source->path,
                                  .format = source->format,
                                  .gate = &kho_image_gate_open,
                                  .secrets = qimg_object_secrets(),
                                  .key_secret = source->key_secret };
    g_autoptr(GError) error = NULL;

    if (!read_change(options, prefix, &change))
        return FALSE;
    if (kho_image_change_keys(&open, &change, &error))
        return TRUE;
    const char *reason = qimg_reason(error, source->path);
    /* A blank ends this one of QEMU's. */
    qimg_error("%s%s", reason, g_str_has_suffix(reason, "(inactive)") ? " " : "");
    return FALSE;
}
