#include "image/publish.h"

#include "base/fd.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>

typedef struct {
    char *folder, *path, *temp;
} Folder;

static void
setup(Folder *p, gconstpointer data)
{
    p->folder = g_dir_make_tmp("kho-publish-XXXXXX", NULL);
    p->path = g_build_filename(p->folder, "disk.raw", NULL);
    p->temp = g_build_filename(p->folder, ".disk.raw.kho-tmp", NULL);
}

static guint
count_entries(const Folder *p)
{
    g_autoptr(GDir) dir = g_dir_open(p->folder, 0, NULL);
    guint n = 0;

    while (g_dir_read_name(dir))
        n++;
    return n;
}

static void
teardown(Folder *p, gconstpointer data)
{
    g_unlink(p->path);
    g_unlink(p->temp);
    g_assert_cmpint(g_rmdir(p->folder), ==, 0);
    g_free(p->folder);
    g_free(p->path);
    g_free(p->temp);
}

static void
write_text(Publish *publish, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(BlkStore) store = publish_store(publish, &error);

    g_assert_true(store && blk_pwrite(store, 0, text, strlen(text), &error));
}

static void
assert_text(const char *path, const char *text)
{
    g_autofree char *found = NULL;

    g_assert_true(g_file_get_contents(path, &found, NULL, NULL));
    g_assert_cmpstr(found, ==, text);
}

/* Both ways to go: nameless, and as on a file system without nameless files. */
static void
test_new_and_replaced(Folder *p, gconstpointer data)
{
    PublishFlags way = (PublishFlags) GPOINTER_TO_UINT(data);
    g_autoptr(GError) error = NULL;

    g_autoptr(Publish) first = publish_begin(p->path, 0, way, &error);
    g_assert_no_error(error);
    write_text(first, "old");
    g_assert_false(g_file_test(p->path, G_FILE_TEST_EXISTS));
    g_assert_true(publish_finish(first, NULL, &error));
    g_clear_pointer(&first, publish_free);
    assert_text(p->path, "old");
    g_assert_cmpuint(count_entries(p), ==, 1);

    g_assert_null(publish_begin(p->path, 0, way, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_EXISTS);
    g_clear_error(&error);

    g_autoptr(Publish) second = publish_begin(p->path, 0, way | PUBLISH_REPLACE, &error);
    g_assert_no_error(error);
    write_text(second, "new");
    assert_text(p->path, "old");
    g_assert_true(publish_finish(second, NULL, &error));
    g_clear_pointer(&second, publish_free);
    assert_text(p->path, "new");
    g_assert_cmpuint(count_entries(p), ==, 1);
}

static void
test_dropped(Folder *p, gconstpointer data)
{
    PublishFlags way = (PublishFlags) GPOINTER_TO_UINT(data);
    static const volatile gint cancelled = 1;
    const KhoJob job = { .cancelled = &cancelled };
    g_autoptr(GError) error = NULL;

    g_autoptr(Publish) publish = publish_begin(p->path, 0, way, &error);
    g_assert_no_error(error);
    g_assert_false(publish_finish(publish, &job, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CANCELLED);
    g_clear_pointer(&publish, publish_free);
    g_assert_cmpuint(count_entries(p), ==, 0);
}

/* Two that write the same name: with temporary names the second one is told; the first one is not disturbed.
 */
static void
test_two_writers(Folder *p, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Publish) first = publish_begin(p->path, 0, PUBLISH_NAMED, &error);

    g_assert_no_error(error);
    g_assert_null(publish_begin(p->path, 0, PUBLISH_NAMED, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_BUSY);
    g_clear_error(&error);
    g_assert_true(publish_finish(first, NULL, &error));
}

/* Of two nameless files the second to finish finds the name taken, and nothing is replaced. */
static void
test_race(Folder *p, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Publish) first = publish_begin(p->path, 0, 0, &error);
    g_autoptr(Publish) second = publish_begin(p->path, 0, 0, &error);

    g_assert_no_error(error);
    write_text(first, "first");
    g_assert_true(publish_finish(first, NULL, &error));
    g_assert_false(publish_finish(second, NULL, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_EXISTS);
    g_assert_nonnull(strstr(error->message, p->path));
    g_assert_nonnull(strstr(error->message, "another process made it meanwhile"));
    g_assert_nonnull(strstr(error->message, "choose another name"));
    assert_text(p->path, "first");
}

/* What a killed writer left is nobody's, and goes. */
static void
test_leftover(Folder *p, gconstpointer data)
{
    PublishFlags way = (PublishFlags) GPOINTER_TO_UINT(data);
    g_autoptr(GError) error = NULL;

    g_assert_true(g_file_set_contents(p->temp, "torn", -1, NULL));
    g_autoptr(Publish) publish = publish_begin(p->path, 0, way, &error);
    g_assert_no_error(error);
    write_text(publish, "whole");
    g_assert_true(publish_finish(publish, NULL, &error));
    g_clear_pointer(&publish, publish_free);
    assert_text(p->path, "whole");
    g_assert_cmpuint(count_entries(p), ==, 1);
}

/* A file that somebody uses is not replaced under him. */
static void
test_in_use(Folder *p, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(g_file_set_contents(p->path, "used", -1, NULL));
    g_autoptr(BlkStore) user = blk_file_open(p->path, FALSE, &error);
    g_assert_true(user && image_lock(user, IMAGE_LOCK_READ, &error));
    g_assert_null(publish_begin(p->path, 0, PUBLISH_REPLACE, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_BUSY);
    assert_text(p->path, "used");
}

static void
test_mode(Folder *p, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    struct stat st;

    g_assert_true(g_file_set_contents(p->path, "private", -1, NULL));
    g_assert_cmpint(g_chmod(p->path, 06600), ==, 0); /* a disk never runs as its owner */
    g_autoptr(Publish) publish = publish_begin(p->path, 0, PUBLISH_REPLACE, &error);
    g_assert_true(publish && publish_finish(publish, NULL, &error));
    g_assert_cmpint(g_stat(p->path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0600);
}

static void
add(const char *name, PublishFlags way, void (*test)(Folder *, gconstpointer))
{
    g_test_add(name, Folder, GUINT_TO_POINTER(way), setup, test, teardown);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("/image/publish/new-and-replaced/nameless", 0, test_new_and_replaced);
    add("/image/publish/new-and-replaced/named", PUBLISH_NAMED, test_new_and_replaced);
    add("/image/publish/dropped/nameless", 0, test_dropped);
    add("/image/publish/dropped/named", PUBLISH_NAMED, test_dropped);
    add("/image/publish/two-writers", 0, test_two_writers);
    add("/image/publish/race", 0, test_race);
    add("/image/publish/leftover/nameless", 0, test_leftover);
    add("/image/publish/leftover/named", PUBLISH_NAMED, test_leftover);
    add("/image/publish/in-use", 0, test_in_use);
    add("/image/publish/mode", 0, test_mode);
    return g_test_run();
}
