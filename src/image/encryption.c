#include "image/encryption.h"

#include "base/error.h"
#include "image/secret.h"

#define DEFAULT_ITERATION_MS 2000

static gboolean
check_format(const KhoImageCreate *options, GError **error)
{
    const char *format = options->encryption->format;

    if (!g_str_equal(options->format, "qcow2") && !g_str_equal(options->format, "luks"))
        return fail(error, KHO_ERROR_INVALID, "a %s image is not encrypted: use qcow2 or luks",
                    options->format);
    if (g_strcmp0(format, "aes") == 0)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "QEMU's old encryption 'aes' is broken, and only read: use luks");
    return g_strcmp0(format, "luks") == 0
           || fail(error, KHO_ERROR_INVALID, "unknown encryption '%s': there is luks", format ? format : "");
}

gboolean
encryption_read_spec(const KhoImageCreate *options, LuksSpec *spec, GError **error)
{
    const KhoImageEncryption *e = options->encryption;
    const LuksNames names = { e->cipher_alg, e->cipher_mode, e->ivgen_alg, e->ivgen_hash_alg, e->hash_alg };

    return check_format(options, error) && luks_spec_of_names(&names, spec, error);
}

gboolean
encryption_read(const KhoImageCreate *options, LuksFormat *format, GError **error)
{
    const KhoImageEncryption *e = options->encryption;
    LuksFormat f = { .iteration_ms = e->iter_time_ms ? e->iter_time_ms : DEFAULT_ITERATION_MS };
    Secret found;

    if (!encryption_read_spec(options, &f.spec, error))
        return FALSE;
    if (!e->key_secret)
        return fail(error, KHO_ERROR_INVALID, "Parameter '%skey-secret' is required for cipher",
                    g_str_equal(options->format, "luks") ? "" : "encrypt.");
    if (!secrets_find_passphrase(options->secrets, e->key_secret, &found, error))
        return FALSE;
    f.passphrase = (LuksPassphrase){ found.bytes, found.len };
    *format = f;
    return TRUE;
}
