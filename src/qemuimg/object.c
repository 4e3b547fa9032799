#include "qemuimg/object.h"

#include "qemuimg/keyval.h"
#include "qemuimg/output.h"

#include <errno.h>

/* Made by the first one. */
static KhoSecrets *secrets;

static const char *const known[] = { "qom-type", "id", "data", "file", "format", "keyid", "iv" };

static gboolean
check_members(const QimgKeyval *pairs)
{
    for (guint i = 0; i < pairs->len; i += 2) {
        const char *name = pairs->pdata[i];
        gsize at = 0;

        while (at < G_N_ELEMENTS(known) && !g_str_equal(known[at], name))
            at++;
        if (at < G_N_ELEMENTS(known))
            continue;
        qimg_error("Parameter '%s' is unexpected", name);
        return FALSE;
    }
    return TRUE;
}

/* As kho_secrets_add wants them: commas doubled. */
static char *
join(const QimgKeyval *pairs)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < pairs->len; i += 2) {
        g_auto(GStrv) parts = g_strsplit(pairs->pdata[i + 1], ",", -1);
        g_autofree char *value = g_strjoinv(",,", parts);

        if (!g_str_equal(pairs->pdata[i], "qom-type"))
            g_string_append_printf(text, "%s%s=%s", text->len > 0 ? "," : "", (char *) pairs->pdata[i],
                                   value);
    }
    return g_string_free(text, FALSE);
}

static gboolean
add_secret(const QimgKeyval *pairs, const char *id)
{
    const char *data = qimg_keyval_get(pairs, "data"), *file = qimg_keyval_get(pairs, "file");
    const char *format = qimg_keyval_get(pairs, "format");
    g_autofree char *properties = join(pairs);
    g_autoptr(GError) error = NULL;

    if (!secrets)
        secrets = kho_secrets_new();
    if (!data && !file)
        qimg_error("Either 'file' or 'data' must be provided");
    else if (data && file)
        qimg_error("'file' and 'data' are mutually exclusive");
    else if (format && !g_str_equal(format, "raw") && !g_str_equal(format, "base64"))
        qimg_error("Parameter 'format' does not accept value '%s'", format);
    else if (kho_secrets_has(secrets, id))
        qimg_error("attempt to add duplicate property '%s' to object (type 'container')", id);
    else if (kho_secrets_add(secrets, properties, KHO_SECRETS_DATA, &error))
        return TRUE;
    else if (file && error->code == KHO_ERROR_NOT_FOUND)
        qimg_error("Unable to read %s: Failed to open file “%s”: %s", file, file, g_strerror(ENOENT));
    else
        qimg_error("%s", error->message);
    return FALSE;
}

gboolean
qimg_object_add(const char *text)
{
    g_autofree char *fault = NULL;
    g_autoptr(QimgKeyval) pairs =
        *text == '{' ? qimg_keyval_parse_json(text, &fault) : qimg_keyval_parse(text, "qom-type", &fault);

    if (!pairs) {
        qimg_error("%s", fault);
        return FALSE;
    }
    const char *type = qimg_keyval_get(pairs, "qom-type"), *id = qimg_keyval_get(pairs, "id");
    if (!type || (g_str_equal(type, "secret") && !id)) {
        qimg_error("Parameter '%s' is missing", type ? "id" : "qom-type");
        return FALSE;
    }
    if (!g_str_equal(type, "secret")) {
        qimg_error("Parameter 'qom-type' does not accept value '%s'", type);
        return FALSE;
    }
    return check_members(pairs) && add_secret(pairs, id);
}

const KhoSecrets *
qimg_object_secrets(void)
{
    return secrets;
}
