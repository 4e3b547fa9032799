/* Rules held: which names are allowed, where things live, that a tree of a newer version is refused. */
#include "base/fd.h"
#include "store/list.h"
#include "store/publish.h"
#include "store/test_scratch.h"
#include "store/tree.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define X50  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X200 X50 X50 X50 X50

/* @says: NULL where the name is good, otherwise a part of the message. */
static const struct {
    const char *name, *says;
} names[] = {
    { "web1", NULL },
    { "a", NULL },
    { "with space", NULL },
    { " a", "blank at one end" },
    { "a ", "blank at one end" },
    { " ", "blank at one end" },
    { "a\u00a0", "blank at one end" },
    { "a.b-c_d", NULL },
    { "äöü 日本", NULL },
    { "a\"<&>'", NULL },
    { X200, NULL },
    { X200 "x", "at most 200" },
    { "", "empty" },
    { ".", "begins with '.'" },
    { "..", "begins with '.'" },
    { ".hidden", "begins with '.'" },
    { "-x", "begins with '-'" },
    { "a/b", "slash" },
    { "/", "slash" },
    { "a\nb", "control" },
    { "a\tb", "control" },
    { "a\x7f", "control" },
    { "a\xc2\x85z", "control" }, /* U+0085, a control character of two bytes */
    { "a\u202e"
      "b",
      "U+202E" },
    { "a\u2066"
      "b",
      "U+2066" },
    { "\u200f"
      "a",
      "U+200F" },
    { "a\u200b", "U+200B" },
    { "\ufeff"
      "a",
      "U+FEFF" },
    { "a\u2028"
      "b",
      "U+2028" },
    { "a\xff", "UTF-8" },
    { "a\xc3", "UTF-8" },
};

static void
test_names(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(GError) error = NULL;
        gboolean good = store_name_check(names[i].name, "pool", &error);

        g_assert_cmpint(good, ==, names[i].says == NULL);
        if (good)
            continue;
        g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
        g_assert_nonnull(strstr(error->message, names[i].says));
        g_assert_nonnull(strstr(error->message, "pool"));
        g_assert_null(strpbrk(error->message, "\n\t\x7f"));
    }
    g_assert_true(store_file_name_check("a ", "volume", NULL));
    g_assert_false(store_file_name_check("a/", "volume", NULL));
}

static void
test_open(void)
{
    char *root = scratch_make();
    g_autofree char *deep = g_build_filename(root, "not", "there", NULL);
    g_autoptr(GError) error = NULL;
    struct stat st;

    for (guint again = 0; again < 2; again++) {
        g_autoptr(StoreTree) tree = store_tree_open(deep, &error);
        g_assert_no_error(error);
        g_autofree char *domain = store_path_domain(tree, "web1");
        g_assert_true(g_str_has_prefix(domain, deep));
        g_assert_true(g_str_has_suffix(domain, "/etc/qemu/web1.xml"));
        g_assert_cmpint(g_stat(tree->run, &st), ==, 0);
        g_assert_cmpint(st.st_mode & 0077, ==, geteuid() == 0 ? 0011 : 0);
    }
    g_assert_null(store_tree_open("", &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    scratch_remove(root);
}

static gpointer
open_once(gpointer root)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreTree) tree = store_tree_open(root, &error);

    g_assert_no_error(error);
    g_assert_nonnull(tree);
    return NULL;
}

/* Many first commands on one new tree: all of them succeed. */
static void
test_open_at_once(void)
{
    GThread *threads[16];

    for (guint round = 0; round < 20; round++) {
        char *root = scratch_make();

        for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
            threads[i] = g_thread_new("open", open_once, root);
        for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
            g_thread_join(threads[i]);
        scratch_remove(root);
    }
}

static void
test_version(void)
{
    static const struct {
        const char *text;
        KhoErrorCode code;
    } rows[] = { { "2\n", KHO_ERROR_UNSUPPORTED }, { "", KHO_ERROR_CORRUPT }, { "one", KHO_ERROR_CORRUPT } };
    char *root = scratch_make();
    g_autofree char *version = g_build_filename(root, "lib", "version", NULL);

    store_tree_free(store_tree_open(root, NULL));
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_true(store_publish(version, rows[i].text, strlen(rows[i].text), 0644, NULL));
        g_assert_null(store_tree_open(root, &error));
        g_assert_error(error, KHO_ERROR, (gint) rows[i].code);
        g_assert_nonnull(strstr(error->message, version));
    }
    scratch_remove(root);
}

/* Only NAME.xml counts, in byte order, and a thousand of them are listed at once. */
static void
test_list(void)
{
    static const char *const ignored[] = { ".web1.xml.kho-tmp", "web1.xml~", "README", ".xml" };
    char *root = scratch_make();
    g_autoptr(StoreTree) tree = store_tree_open(root, NULL);

    for (guint i = 0; i < 1000; i++) {
        g_autofree char *name = g_strdup_printf("m%03u", 999 - i);
        g_autofree char *path = store_path_domain(tree, name);
        g_assert_true(g_file_set_contents(path, "<domain/>", -1, NULL));
    }
    for (gsize i = 0; i < G_N_ELEMENTS(ignored); i++) {
        g_autofree char *path = g_build_filename(tree->etc, "qemu", ignored[i], NULL);
        g_assert_true(g_file_set_contents(path, "", 0, NULL));
    }
    gint64 start_us = g_get_monotonic_time();
    g_autoptr(GPtrArray) found = store_list_domains(tree, NULL);
    g_test_message("1000 names listed in %" G_GINT64_FORMAT " us", g_get_monotonic_time() - start_us);
    g_assert_cmpuint(found->len, ==, 1000);
    g_assert_cmpstr(found->pdata[0], ==, "m000");
    g_assert_cmpstr(found->pdata[999], ==, "m999");

    g_autoptr(GPtrArray) none = store_list_pools_active(tree, NULL);
    g_assert_cmpuint(none->len, ==, 0);
    scratch_remove(root);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store/tree/names", test_names);
    g_test_add_func("/store/tree/open", test_open);
    g_test_add_func("/store/tree/open-at-once", test_open_at_once);
    g_test_add_func("/store/tree/version", test_version);
    g_test_add_func("/store/tree/list", test_list);
    return g_test_run();
}
