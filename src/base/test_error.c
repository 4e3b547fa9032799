/* The error channel: codes have names, and what fails says so in one way. */
#include "base/error.h"

#include <errno.h>

static void
test_names(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint code = 0; code < KHO_ERROR_N_CODES; code++) {
        const char *name = kho_error_code_name((KhoErrorCode) code);
        g_assert_cmpstr(name, !=, "unknown");
        g_assert_true(g_hash_table_add(seen, (gpointer) name)); /* no name stands for two codes */
    }
    g_assert_cmpstr(kho_error_code_name(KHO_ERROR_N_CODES), ==, "unknown");
}

static void
test_fail(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(fail(&error, KHO_ERROR_BUSY, "%s is held", "it"));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_BUSY);
    g_assert_cmpstr(error->message, ==, "it is held");
    g_assert_false(fail(NULL, KHO_ERROR_BUSY, "nobody asked"));
    g_clear_error(&error);
    g_assert_false(fail(&error, KHO_ERROR_INVALID, "file '%s'", "a\nb\xff"));
    g_assert_cmpstr(error->message, ==, "file 'a b\xef\xbf\xbd'");
}

static void
test_fail_errno(void)
{
    static const struct {
        int errno_value;
        KhoErrorCode code;
    } rows[] = {
        { ENOENT, KHO_ERROR_NOT_FOUND }, { EEXIST, KHO_ERROR_EXISTS },      { EACCES, KHO_ERROR_DENIED },
        { EROFS, KHO_ERROR_DENIED },     { ENOSPC, KHO_ERROR_NO_SPACE },    { EDQUOT, KHO_ERROR_NO_SPACE },
        { EFBIG, KHO_ERROR_NO_SPACE },   { EAGAIN, KHO_ERROR_BUSY },        { ETIMEDOUT, KHO_ERROR_TIMEOUT },
        { EINVAL, KHO_ERROR_INVALID },   { ENOSYS, KHO_ERROR_UNSUPPORTED }, { EIO, KHO_ERROR_IO },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(fail_errno(&error, rows[i].errno_value, "cannot open %s", "/x"));
        g_assert_error(error, KHO_ERROR, (gint) rows[i].code);
        g_autofree char *says = g_strdup_printf("cannot open /x: %s", g_strerror(rows[i].errno_value));
        g_assert_cmpstr(error->message, ==, says);
    }
}

static void
test_one_line(void)
{
    g_autofree char *line = error_one_line(" a\nb\x7f\x1b[31mc\r\n");
    g_autofree char *none = error_one_line(NULL);

    g_assert_cmpstr(line, ==, "a b  [31mc");
    g_assert_cmpstr(none, ==, "");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/error/names", test_names);
    g_test_add_func("/error/fail", test_fail);
    g_test_add_func("/error/fail-errno", test_fail_errno);
    g_test_add_func("/error/one-line", test_one_line);
    return g_test_run();
}
