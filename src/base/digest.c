#include "base/digest.h"

#include "base/error.h"

#include <dlfcn.h>
#include <gcrypt.h>
#include <string.h>

#define LIBGCRYPT_NAME "libgcrypt.so.20"
#define LIBGCRYPT_CALLS(CALL)                                                                                \
    CALL(gcry_check_version)                                                                                 \
    CALL(gcry_control)                                                                                       \
    CALL(gcry_md_close)                                                                                      \
    CALL(gcry_md_open)                                                                                       \
    CALL(gcry_md_read)                                                                                       \
    CALL(gcry_md_write)

#define CALL(name) __typeof__(name) *name;
static struct {
    LIBGCRYPT_CALLS(CALL)
} libgcrypt;
#undef CALL

struct Digest {
    gcry_md_hd_t handle;
};

static gpointer
load_libgcrypt(gpointer data)
{
    void *library = dlopen(LIBGCRYPT_NAME, RTLD_NOW | RTLD_LOCAL);
    gboolean whole = library != NULL;

#define CALL(name)                                                                                           \
    libgcrypt.name = library ? (__typeof__(name) *) dlsym(library, #name) : NULL;                            \
    whole = whole && libgcrypt.name;
    LIBGCRYPT_CALLS(CALL)
#undef CALL
    /* What libgcrypt's manual asks of a program before its first use; nothing here is secret. */
    if (!whole || !libgcrypt.gcry_check_version(NULL))
        return GINT_TO_POINTER(FALSE);
    libgcrypt.gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
    libgcrypt.gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
    return GINT_TO_POINTER(TRUE);
}

Digest *
digest_new(GError **error)
{
    static GOnce once = G_ONCE_INIT;
    g_autofree Digest *digest = g_new0(Digest, 1);

    if (!g_once(&once, load_libgcrypt, NULL)
        || libgcrypt.gcry_md_open(&digest->handle, GCRY_MD_SHA256, 0) != 0) {
        fail(error, KHO_ERROR_UNSUPPORTED, "%s cannot be used for SHA-256: install libgcrypt20",
             LIBGCRYPT_NAME);
        return NULL;
    }
    return g_steal_pointer(&digest);
}

void
digest_feed(Digest *digest, const void *bytes, gsize len)
{
    libgcrypt.gcry_md_write(digest->handle, bytes, len);
}

char *
digest_text(Digest *digest)
{
    const guint8 *raw = libgcrypt.gcry_md_read(digest->handle, GCRY_MD_SHA256);
    char *text = g_malloc(DIGEST_DIGITS + 1);

    for (gsize i = 0; i < DIGEST_DIGITS / 2; i++)
        g_snprintf(text + 2 * i, 3, "%02x", raw[i]);
    return text;
}

void
digest_free(Digest *digest)
{
    if (!digest)
        return;
    libgcrypt.gcry_md_close(digest->handle);
    g_free(digest);
}

char *
digest_of(const void *bytes, gsize len, GError **error)
{
    g_autoptr(Digest) digest = digest_new(error);

    if (!digest)
        return NULL;
    digest_feed(digest, bytes, len);
    return digest_text(digest);
}

gboolean
digest_is_text(const char *text)
{
    return strlen(text) == DIGEST_DIGITS && strspn(text, "0123456789abcdef") == DIGEST_DIGITS;
}
