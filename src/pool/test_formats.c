/* Rules held: a record holds for the file that it was made for and for none that takes its name; what is
 * stale goes with the next record; a file that cannot be read is told, and one of a newer kho refused. */
#include "base/fd.h"
#include "pool/formats.h"
#include "pool/pool.h"
#include "store/publish.h"
#include "store/test_scratch.h"

#include <glib/gstdio.h>
#include <string.h>

#define UUID "7c1de0b2-4c9f-4b7e-9a55-0d6c7b9a1f00"

typedef struct {
    char *base, *records;
    StoreTree *tree;
    ModelPool *pool;
} Fixture;

static void
set_up(Fixture *f, gconstpointer unused)
{
    f->base = scratch_make();
    g_autofree char *root = g_build_filename(f->base, "root", NULL);
    g_autofree char *folder = g_build_filename(f->base, "pool", NULL);
    f->tree = store_tree_open(root, NULL);
    f->pool = model_pool_new(MODEL_POOL_DIR, "pool", folder);
    f->pool->uuid = g_strdup(UUID);
    f->records = store_path_pool_formats(f->tree, UUID);
    g_assert_cmpint(g_mkdir(folder, 0700), ==, 0);
}

static void
tear_down(Fixture *f, gconstpointer unused)
{
    g_free(f->records);
    store_tree_free(f->tree);
    model_pool_free(f->pool);
    scratch_remove(f->base);
}

static char *
make_file(Fixture *f, const char *name)
{
    char *path = pool_volume_path(f->pool, name);

    g_assert_true(g_file_set_contents_full(path, "x", 1, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
    return path;
}

static void
expect(Fixture *f, const char *name, const char *format)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(PoolFormats) formats = pool_formats_load(f->tree, f->pool, &error);

    g_assert_no_error(error);
    g_assert_cmpstr(pool_formats_get(formats, name), ==, format);
}

/* Removes the file and makes another one, at another tick of the clock that births are told by. */
static void
make_later(Fixture *f, const char *name)
{
    g_autofree char *path = pool_volume_path(f->pool, name);
    FdIdentity before, now;

    g_assert_true(fd_identity(path, &before, NULL));
    do {
        g_assert_cmpint(g_unlink(path), ==, 0);
        expect(f, name, NULL);
        g_free(make_file(f, name));
        g_assert_true(fd_identity(path, &now, NULL));
    } while (now.born_ns == before.born_ns && now.inode == before.inode);
}

static void
set(Fixture *f, const char *name)
{
    g_autoptr(GError) error = NULL;

    pool_formats_set(f->tree, f->pool, name, "raw", NULL, &error);
    g_assert_no_error(error);
}

static void
test_same_file_only(Fixture *f, gconstpointer unused)
{
    const char *const name = "a volume \"of\" m\xc3\xbcller";
    g_autofree char *path = make_file(f, name);
    g_autofree char *aside = g_strconcat(path, "-aside", NULL);

    expect(f, name, NULL);
    set(f, name);
    expect(f, name, "raw");
    g_assert_true(g_file_set_contents_full(path, "QFI\xfb", 4, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
    expect(f, name, "raw"); /* other bytes in the same file */

    /* Removed and made again, it may well have the same inode. */
    for (guint i = 0; i < 20; i++) {
        set(f, name);
        expect(f, name, "raw");
        make_later(f, name);
        expect(f, name, NULL);
    }
    set(f, name);
    g_assert_cmpint(g_rename(path, aside), ==, 0);
    g_free(make_file(f, name));
    expect(f, name, NULL);
    g_assert_cmpint(g_rename(aside, path), ==, 0);
    expect(f, name, "raw");
}

static void
test_stale_goes(Fixture *f, gconstpointer unused)
{
    g_autofree char *gone = make_file(f, "gone");
    g_autofree char *kept = make_file(f, "kept");
    g_autofree char *text = NULL;
    g_autofree char *after = NULL;

    set(f, "gone");
    set(f, "kept");
    g_assert_cmpint(g_unlink(gone), ==, 0);
    set(f, "kept");
    g_assert_true(g_file_get_contents(f->records, &text, NULL, NULL));
    g_assert_null(strstr(text, "gone"));
    g_assert_cmpint(g_unlink(kept), ==, 0);
    pool_formats_forget(f->tree, f->pool, "kept", NULL);
    pool_formats_forget(f->tree, f->pool, "never there", NULL);
    g_assert_true(g_file_get_contents(f->records, &after, NULL, NULL));
    g_assert_null(strstr(after, "kept"));
}

static void
test_unreadable(Fixture *f, gconstpointer unused)
{
    static const struct {
        const char *text;
        KhoErrorCode code;
    } rows[] = {
        { "", KHO_ERROR_CORRUPT },
        { "{\"version\":1,\"volumes\":[{\"name\":\"v\"}]}", KHO_ERROR_CORRUPT },
        { "{\"volumes\":[]}", KHO_ERROR_CORRUPT },
        { "{\"version\":2,\"volumes\":[]}", KHO_ERROR_UNSUPPORTED },
    };
    g_autofree char *path = make_file(f, "v");

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL, again = NULL;

        g_assert_true(store_publish(f->records, rows[i].text, strlen(rows[i].text), 0600, NULL));
        g_assert_null(pool_formats_load(f->tree, f->pool, &error));
        g_assert_error(error, KHO_ERROR, (gint) rows[i].code);
        g_assert_nonnull(strstr(error->message, f->records));
        g_assert_false(pool_formats_set(f->tree, f->pool, "v", "raw", NULL, &again));
        g_assert_error(again, KHO_ERROR, (gint) rows[i].code);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, fn) g_test_add("/pool/formats/" name, Fixture, NULL, set_up, fn, tear_down)
    ADD("same-file-only", test_same_file_only);
    ADD("stale-goes", test_stale_goes);
    ADD("unreadable", test_unreadable);
    return g_test_run();
}
