/* Rules held: a secret's properties are QEMU's; nothing that is told holds a secret; what is not a passphrase
 * is refused as one; a secret enciphered under another one is read. */
#include "image/secret.h"

#include <glib/gstdio.h>
#include <string.h>

static const struct {
    const char *properties, *says; /* NULL: good */
} rows[] = {
    { "id=a,data=hush", NULL },
    { "data=hush,id=a,format=raw", NULL },
    { "id=a,data=hush,,hush", NULL },
    { "id=a,format=base64,data=aHVzaA==", NULL },
    { "data=hush", "Parameter 'id' is missing" },
    { "id=,data=hush", "needs an id" },
    { "id=a", "Either 'file' or 'data'" },
    { "id=a,data=", "Either 'file' or 'data'" },
    { "id=a,data=hush,file=/hush", "mutually exclusive" },
    { "id=a,data=hush,secret=hush", "Parameter 'secret' is unexpected" },
    { "id=a,format=hex,data=hush", "does not accept value 'hex'" },
    { "id=a,format=base64,data=hu!sh", "not valid base64" },
    { "id=a,data=hush,iv=AAAAAAAAAAAAAAAAAAAAAA==", "'iv' goes with 'keyid'" },
    { "id=a,data=hush,keyid=b", "IV is required" },
    { "id=a,data=hush,keyid=b,iv=AAAAAAAAAAAAAAAAAAAAAA==", "No secret with id 'b'" },
    { "id=a,file=/nonexistent/file", "/nonexistent/file" },
    { "hush", "NAME=VALUE" },
};

static void
test_properties(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(KhoSecrets) secrets = kho_secrets_new();
        g_autoptr(GError) error = NULL;
        gboolean good = kho_secrets_add(secrets, rows[i].properties, KHO_SECRETS_DATA, &error);

        g_assert_cmpint(good, ==, rows[i].says == NULL);
        g_assert_cmpint(kho_secrets_has(secrets, "a"), ==, good);
        if (good)
            continue;
        g_assert_nonnull(strstr(error->message, rows[i].says));
        g_assert_true(!strstr(error->message, "hush"));
    }
}

static void
test_files_only(void)
{
    g_autoptr(KhoSecrets) secrets = kho_secrets_new();
    g_autoptr(GError) error = NULL;

    g_assert_false(kho_secrets_add(secrets, "id=a,data=hush", KHO_SECRETS_FILES_ONLY, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    g_assert_false(kho_secrets_has(secrets, "a"));
}

static void
test_bytes(void)
{
    g_autoptr(KhoSecrets) secrets = kho_secrets_new();
    g_autoptr(GError) error = NULL;
    Secret found;

    g_assert_true(kho_secrets_add_bytes(secrets, "nul", "a\0b", 3, &error));
    g_assert_true(secrets_find(secrets, "nul", &found, &error));
    g_assert_cmpmem(found.bytes, found.len, "a\0b", 3);
    g_assert_false(secrets_find_passphrase(secrets, "nul", &found, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    g_clear_error(&error);
    g_assert_false(kho_secrets_add_bytes(secrets, "nul", "again", 5, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_EXISTS);
    g_clear_error(&error);
    g_assert_true(kho_secrets_add_bytes(secrets, "none", NULL, 0, &error));
    g_assert_true(secrets_find_passphrase(secrets, "none", &found, &error));
    g_assert_cmpuint(found.len, ==, 0);
}

/* The whole file counts, its last line break too. */
static void
test_file(void)
{
    g_autofree char *folder = g_dir_make_tmp("secret-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "a,b", NULL);
    g_autofree char *properties = g_strdup_printf("id=a,file=%s/a,,b", folder);
    g_autofree char *large = g_strnfill(KHO_SECRET_BYTES_MAX + 1, 'x');
    g_autoptr(KhoSecrets) secrets = kho_secrets_new();
    g_autoptr(GError) error = NULL;
    Secret found;

    g_assert_true(g_file_set_contents(path, large, -1, NULL));
    g_assert_false(kho_secrets_add(secrets, properties, KHO_SECRETS_FILES_ONLY, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    g_clear_error(&error);
    g_assert_true(g_file_set_contents(path, "hush\n", -1, NULL));
    kho_secrets_add(secrets, properties, KHO_SECRETS_FILES_ONLY, &error);
    g_assert_no_error(error);
    g_assert_true(secrets_find_passphrase(secrets, "a", &found, &error));
    g_assert_cmpmem(found.bytes, found.len, "hush\n", 5);
    g_unlink(path);
    g_rmdir(folder);
}

/* "a secret under another" in AES-256-CBC with a key and an IV of zeros, by openssl enc. */
static void
test_under_another(void)
{
    static const guint8 key[32];
    static const char sealed[] = "id=a,keyid=key,iv=AAAAAAAAAAAAAAAAAAAAAA==,format=base64,"
                                 "data=FMr97OAog9iuSJG+WU60fzwGYJDzaTVeaBkBzzZ8IFU=";
    g_autoptr(KhoSecrets) secrets = kho_secrets_new();
    g_autoptr(GError) error = NULL;
    Secret found;

    g_assert_true(kho_secrets_add_bytes(secrets, "key", key, sizeof key, NULL));
    kho_secrets_add(secrets, sealed, KHO_SECRETS_DATA, &error);
    g_assert_no_error(error);
    g_assert_true(secrets_find(secrets, "a", &found, &error));
    g_assert_cmpmem(found.bytes, found.len, "a secret under another", 22);

    g_assert_true(kho_secrets_add_bytes(secrets, "wrong", "01234567890123456789012345678901", 32, NULL));
    g_assert_false(kho_secrets_add(secrets,
                                   "id=b,keyid=wrong,iv=AAAAAAAAAAAAAAAAAAAAAA==,format=base64,"
                                   "data=FMr97OAog9iuSJG+WU60fzwGYJDzaTVeaBkBzzZ8IFU=",
                                   KHO_SECRETS_DATA, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_DENIED);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/image/secret/properties", test_properties);
    g_test_add_func("/image/secret/files-only", test_files_only);
    g_test_add_func("/image/secret/bytes", test_bytes);
    g_test_add_func("/image/secret/file", test_file);
    g_test_add_func("/image/secret/under-another", test_under_another);
    return g_test_run();
}
