/* A backup's manifest: as it comes, and with its own hash set right, so that what lies behind the hash is
 * reached; what is read is written so that it reads the same. */
#include "backup/manifest.h"
#include "base/digest.h"

#include <stdint.h>
#include <string.h>

#define MARK "\"manifest-sha256\": \""

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static gboolean
parse(const char *text, gsize len, KhoBackupPoint *point)
{
    g_autoptr(GError) error = NULL;

    if (backup_manifest_parse(text, len, "manifest.json", point, &error))
        return TRUE;
    g_assert_true(error->code == KHO_ERROR_CORRUPT || error->code == KHO_ERROR_UNSUPPORTED);
    g_assert_null(strchr(error->message, '\n'));
    return FALSE;
}

static void
set_hash_right(char *text, gsize len)
{
    char *mark = strlen(text) == len ? g_strrstr(text, MARK) : NULL;
    char *digits = mark ? mark + strlen(MARK) : NULL;

    if (!digits || strlen(digits) < DIGEST_DIGITS)
        return;
    memset(digits, '0', DIGEST_DIGITS);
    g_autofree char *digest = digest_of(text, len, NULL);
    memcpy(digits, digest, DIGEST_DIGITS);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    g_autofree char *text = g_strndup((const char *) data, len);
    g_autoptr(KhoBackupPoint) point = backup_point_new("m", "p", "/s/m/p");
    g_autoptr(KhoBackupPoint) again = backup_point_new("m", "p", "/s/m/p");

    parse((const char *) data, len, again);
    set_hash_right(text, len);
    if (!parse(text, len, point))
        return 0;
    g_autofree char *written = backup_manifest_format(point, NULL);
    g_assert_true(parse(written, strlen(written), again));
    g_autofree char *twice = backup_manifest_format(again, NULL);
    g_assert_cmpstr(twice, ==, written);
    return 0;
}
