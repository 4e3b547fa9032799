#include "base/digest.h"

#include "base/crypto.h"

#include <string.h>

struct Digest {
    CryptoSum *sum;
};

Digest *
digest_new(GError **error)
{
    CryptoSum *sum = crypto_sum_new(CRYPTO_SHA256, error);

    if (!sum)
        return NULL;
    Digest *digest = g_new0(Digest, 1);
    digest->sum = sum;
    return digest;
}

void
digest_feed(Digest *digest, const void *bytes, gsize len)
{
    crypto_sum_feed(digest->sum, bytes, len);
}

char *
digest_text(Digest *digest)
{
    const guint8 *raw = crypto_sum_read(digest->sum);
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
    crypto_sum_free(digest->sum);
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
