#include "image/secret.h"

#include "base/crypto.h"
#include "base/error.h"
#include "base/fd.h"

#include <fcntl.h>
#include <string.h>

/* Of the cipher that one secret is kept under by another. */
#define WRAP_KEY_BYTES   32
#define WRAP_BLOCK_BYTES 16

typedef struct {
    char *id;
    guint8 *bytes; /* NUL after them */
    gsize len;
} Kept;

struct KhoSecrets {
    GPtrArray *kept; /* of Kept */
};

typedef struct {
    char *id, *file, *data, *format, *keyid, *iv;
} Properties;

static void
wipe_free(gpointer bytes, gsize len)
{
    crypto_wipe(bytes, len);
    g_free(bytes);
}

static void
wipe_text(char *text)
{
    if (text)
        wipe_free(text, strlen(text));
}

static void
kept_free(gpointer data)
{
    Kept *kept = data;

    wipe_free(kept->bytes, kept->len);
    g_free(kept->id);
    g_free(kept);
}

static void
properties_clear(Properties *p)
{
    wipe_text(p->data);
    g_free(p->id);
    g_free(p->file);
    g_free(p->format);
    g_free(p->keyid);
    g_free(p->iv);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Properties, properties_clear)

KhoSecrets *
kho_secrets_new(void)
{
    KhoSecrets *secrets = g_new0(KhoSecrets, 1);

    secrets->kept = g_ptr_array_new_with_free_func(kept_free);
    return secrets;
}

void
kho_secrets_free(KhoSecrets *secrets)
{
    if (!secrets)
        return;
    g_ptr_array_unref(secrets->kept);
    g_free(secrets);
}

static const Kept *
find(const KhoSecrets *secrets, const char *id)
{
    for (guint i = 0; secrets && i < secrets->kept->len; i++) {
        const Kept *kept = secrets->kept->pdata[i];
        if (g_str_equal(kept->id, id))
            return kept;
    }
    return NULL;
}

gboolean
kho_secrets_has(const KhoSecrets *secrets, const char *id)
{
    return find(secrets, id) != NULL;
}

guint
secrets_count(const KhoSecrets *secrets)
{
    return secrets ? secrets->kept->len : 0;
}

Secret
secrets_nth(const KhoSecrets *secrets, guint n)
{
    const Kept *kept = secrets->kept->pdata[n];

    return (Secret){ kept->id, kept->bytes, kept->len };
}

gboolean
secrets_find(const KhoSecrets *secrets, const char *id, Secret *found, GError **error)
{
    const Kept *kept = find(secrets, id);

    if (!kept)
        return fail(error, KHO_ERROR_NOT_FOUND, "No secret with id '%s'", id);
    *found = (Secret){ kept->id, kept->bytes, kept->len };
    return TRUE;
}

gboolean
secrets_find_passphrase(const KhoSecrets *secrets, const char *id, Secret *found, GError **error)
{
    if (!secrets_find(secrets, id, found, error))
        return FALSE;
    return g_utf8_validate((const char *) found->bytes, (gssize) found->len, NULL)
           || fail(error, KHO_ERROR_INVALID, "Data from secret %s is not valid UTF-8", id);
}

/* Takes @bytes over, in every case. */
static gboolean
keep(KhoSecrets *secrets, const char *id, guint8 *bytes, gsize len, GError **error)
{
    if (!*id || kho_secrets_has(secrets, id)) {
        wipe_free(bytes, len);
        return fail(error, *id ? KHO_ERROR_EXISTS : KHO_ERROR_INVALID,
                    *id ? "there is a secret with the id '%s' already" : "a secret needs an id%s", id);
    }
    Kept *kept = g_new0(Kept, 1);
    kept->id = g_strdup(id);
    kept->bytes = bytes;
    kept->len = len;
    g_ptr_array_add(secrets->kept, kept);
    return TRUE;
}

gboolean
kho_secrets_add_bytes(KhoSecrets *secrets, const char *id, const void *bytes, gsize len, GError **error)
{
    if (len > KHO_SECRET_BYTES_MAX)
        return fail(error, KHO_ERROR_INVALID, "the secret '%s' is longer than %d bytes", id,
                    KHO_SECRET_BYTES_MAX);
    guint8 *copy = g_malloc0(len + 1);
    if (len > 0)
        memcpy(copy, bytes, len);
    return keep(secrets, id, copy, len, error);
}

/* --- the properties' text --- */

/* The next NAME=VALUE of *text; a comma in the value is written twice. */
static char *
next_value(const char **text, char **name)
{
    const char *at = *text;
    const char *equals = strchr(at, '=');
    gsize name_len = equals ? (gsize) (equals - at) : 0;

    if (!equals || memchr(at, ',', name_len))
        return NULL;
    char *value = g_malloc0(strlen(equals)), *to = value;
    for (at = equals + 1; *at && (at[0] != ',' || at[1] == ','); at++) {
        at += at[0] == ',';
        *to++ = *at;
    }
    *name = g_strndup(*text, name_len);
    *text = *at ? at + 1 : at;
    return value;
}

static char **
place_of(Properties *p, const char *name)
{
    const struct {
        const char *name;
        char **place;
    } places[] = {
        { "id", &p->id },         { "file", &p->file },   { "data", &p->data },
        { "format", &p->format }, { "keyid", &p->keyid }, { "iv", &p->iv },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(places); i++)
        if (g_str_equal(places[i].name, name))
            return places[i].place;
    return NULL;
}

static gboolean
read_properties(const char *text, Properties *p, GError **error)
{
    while (*text) {
        g_autofree char *name = NULL;
        char *value = next_value(&text, &name);
        char **place = value ? place_of(p, name) : NULL;

        if (!place) {
            wipe_text(value);
            return value ? fail(error, KHO_ERROR_INVALID, "Parameter '%s' is unexpected", name)
                         : fail(error, KHO_ERROR_INVALID, "a secret is given as NAME=VALUE,NAME=VALUE,...");
        }
        wipe_text(*place);
        *place = value;
    }
    return TRUE;
}

static gboolean
check_properties(const Properties *p, KhoSecretsFlags flags, GError **error)
{
    if (!p->id)
        return fail(error, KHO_ERROR_INVALID, "Parameter 'id' is missing");
    if (p->data && p->file)
        return fail(error, KHO_ERROR_INVALID, "'file' and 'data' are mutually exclusive");
    if (!p->file && (!p->data || !*p->data))
        return fail(error, KHO_ERROR_INVALID, "Either 'file' or 'data' must be provided");
    if (p->data && !(flags & KHO_SECRETS_DATA))
        return fail(error, KHO_ERROR_INVALID,
                    "secret '%s': an argument can be seen by whoever lists processes: give it in a file",
                    p->id);
    if (p->format && !g_str_equal(p->format, "raw") && !g_str_equal(p->format, "base64"))
        return fail(error, KHO_ERROR_INVALID, "Parameter 'format' does not accept value '%s'", p->format);
    if (p->iv && !p->keyid)
        return fail(error, KHO_ERROR_INVALID, "secret '%s': 'iv' goes with 'keyid'", p->id);
    if (p->keyid && !p->iv)
        return fail(error, KHO_ERROR_INVALID, "IV is required to decrypt secret");
    return TRUE;
}

/* --- what is kept --- */

/* Into memory that never moves, so that no part of it is left anywhere. A pipe may be the file. */
static guint8 *
read_file(const char *path, gsize *len, GError **error)
{
    fd_auto int fd = fd_open(path, O_RDONLY, 0, error);
    guint8 *bytes = fd >= 0 ? g_malloc0(KHO_SECRET_BYTES_MAX + 2) : NULL;

    if (!bytes)
        return NULL;
    if (!fd_read_upto(fd, bytes, KHO_SECRET_BYTES_MAX + 1, len, path, error)) {
        wipe_free(bytes, KHO_SECRET_BYTES_MAX + 1);
        return NULL;
    }
    if (*len > KHO_SECRET_BYTES_MAX) {
        fail(error, KHO_ERROR_INVALID, "%s is longer than a secret may be: %d bytes", path,
             KHO_SECRET_BYTES_MAX);
        wipe_free(bytes, *len);
        return NULL;
    }
    return bytes;
}

/* g_base64_decode passes over what is no digit, which QEMU refuses. */
static gboolean
is_base64(const char *text, gsize len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n";

    return strlen(text) == len && strspn(text, digits) == len;
}

static gboolean
decode_base64(const char *what, guint8 **bytes, gsize *len, GError **error)
{
    if (!is_base64((const char *) *bytes, *len))
        return fail(error, KHO_ERROR_INVALID, "%s is not valid base64", what);
    gsize decoded_len;
    guint8 *decoded = g_base64_decode((const char *) *bytes, &decoded_len);
    guint8 *ended = g_malloc0(decoded_len + 1);

    memcpy(ended, decoded, decoded_len);
    wipe_free(decoded, decoded_len);
    wipe_free(*bytes, *len);
    *bytes = ended;
    *len = decoded_len;
    return TRUE;
}

/* The last byte says how many bytes of the last block are none of the secret's. */
static gboolean
take_padding(const char *id, guint8 *bytes, gsize *len, GError **error)
{
    guint8 padding = bytes[*len - 1];
    gboolean good = padding > 0 && padding <= WRAP_BLOCK_BYTES;

    for (gsize i = 1; good && i <= padding; i++)
        good = bytes[*len - i] == padding;
    if (!good)
        return fail(error, KHO_ERROR_DENIED, "secret '%s': the key of 'keyid' does not open it", id);
    *len -= padding;
    bytes[*len] = 0;
    return TRUE;
}

/* Deciphers what is kept under another secret. */
static gboolean
unwrap(const KhoSecrets *secrets, const Properties *p, guint8 *bytes, gsize *len, GError **error)
{
    g_autofree guint8 *iv = NULL;
    gsize iv_len = strlen(p->iv);
    Secret key;

    if (!secrets_find(secrets, p->keyid, &key, error))
        return FALSE;
    if (!is_base64(p->iv, iv_len))
        return fail(error, KHO_ERROR_INVALID, "secret '%s': 'iv' is not valid base64", p->id);
    iv = g_base64_decode(p->iv, &iv_len);
    if (iv_len != WRAP_BLOCK_BYTES)
        return fail(error, KHO_ERROR_INVALID, "IV should be %d bytes in length not %" G_GSIZE_FORMAT,
                    WRAP_BLOCK_BYTES, iv_len);
    if (key.len != WRAP_KEY_BYTES)
        return fail(error, KHO_ERROR_INVALID, "Key should be %d bytes in length not %" G_GSIZE_FORMAT,
                    WRAP_KEY_BYTES, key.len);
    if (*len == 0 || *len % WRAP_BLOCK_BYTES != 0)
        return fail(error, KHO_ERROR_INVALID, "secret '%s' is not whole blocks of its cipher", p->id);
    g_autoptr(CryptoCipher) cipher =
        crypto_cipher_new(CRYPTO_AES256, CRYPTO_CBC, key.bytes, WRAP_KEY_BYTES, error);
    if (!cipher)
        return FALSE;
    crypto_cipher_decrypt(cipher, iv, bytes, *len);
    return take_padding(p->id, bytes, len, error);
}

gboolean
kho_secrets_add(KhoSecrets *secrets, const char *properties, KhoSecretsFlags flags, GError **error)
{
    g_auto(Properties) p = { 0 };
    gsize len = 0;

    if (!read_properties(properties, &p, error) || !check_properties(&p, flags, error))
        return FALSE;
    guint8 *bytes = p.file ? read_file(p.file, &len, error) : (guint8 *) g_strdup(p.data);
    if (!bytes)
        return FALSE;
    if (p.data)
        len = strlen(p.data);
    gboolean is_base64_text = p.format && g_str_equal(p.format, "base64");
    if ((is_base64_text && !decode_base64(p.file ? p.file : "the secret", &bytes, &len, error))
        || (p.keyid && !unwrap(secrets, &p, bytes, &len, error))) {
        wipe_free(bytes, len);
        return FALSE;
    }
    return keep(secrets, p.id, bytes, len, error);
}
