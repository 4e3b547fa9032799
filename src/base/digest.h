/* SHA-256 of bytes as they come. libgcrypt does the work and is loaded by the first digest: most commands
 * need none. Reading the files that are hashed is the caller's business. */
#ifndef KHO_BASE_DIGEST_H
#define KHO_BASE_DIGEST_H

#include <kho/error.h>

/* As text: lower-case digits. */
#define DIGEST_DIGITS 64

typedef struct Digest Digest;

/* KHO_ERROR_UNSUPPORTED where libgcrypt cannot be loaded. Digests may be made and used in any thread, each in
 * one at a time. */
Digest *digest_new(GError **error);
void digest_feed(Digest *digest, const void *bytes, gsize len);
/* What was fed so far; nothing more is fed then. Freed with g_free. */
char *digest_text(Digest *digest);
void digest_free(Digest *digest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Digest, digest_free)

/* Of bytes in memory. */
char *digest_of(const void *bytes, gsize len, GError **error);

/* Is @text written as digest_text writes it? */
gboolean digest_is_text(const char *text);

#endif
