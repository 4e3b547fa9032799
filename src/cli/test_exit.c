/* The table of exit statuses: a status of its own for every code, each explained, and documented as it is. */
#include "base/error.h"
#include "cli/exit.h"
#include <string.h>

static const ExitRow *
row_of(int status)
{
    for (gsize i = 0; i < exit_n_rows; i++)
        if (exit_rows[i].status == status)
            return &exit_rows[i];
    return NULL;
}

static void
test_codes(void)
{
    for (int code = 0; code < KHO_ERROR_N_CODES; code++) {
        g_autoptr(GError) error = g_error_new_literal(KHO_ERROR, code, "x");
        int status = exit_status_of(error);
        const ExitRow *row = row_of(status);
        g_assert_cmpint(status, >, 0);
        g_assert_cmpint(status, !=, EXIT_USAGE);
        g_assert_nonnull(row);
        g_assert_cmpstr(row->name, ==, kho_error_code_name((KhoErrorCode) code));
        for (int other = 0; other < code; other++) {
            g_autoptr(GError) another = g_error_new_literal(KHO_ERROR, other, "x");
            g_assert_cmpint(exit_status_of(another), !=, status);
        }
    }
}

static void
test_foreign(void)
{
    g_autoptr(GError) error = g_error_new_literal(g_quark_from_static_string("other"), 3, "x");
    g_assert_cmpint(exit_status_of(error), ==, 1);
    g_assert_cmpint(exit_status_of(NULL), ==, 1);
}

/* docs/exit-status.md is what the table prints. */
static void
test_documented(void)
{
    g_autofree char *folder = g_path_get_dirname(__FILE__);
    g_autofree char *path = g_build_filename(folder, "../../docs/exit-status.md", NULL);
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    for (gsize i = 0; i < exit_n_rows; i++) {
        g_autofree char *line = g_strdup_printf("| %d | %s | %s |\n", exit_rows[i].status, exit_rows[i].name,
                                                exit_rows[i].meaning);
        g_assert_nonnull(strstr(text, line));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/exit/codes", test_codes);
    g_test_add_func("/exit/foreign", test_foreign);
    g_test_add_func("/exit/documented", test_documented);
    return g_test_run();
}
