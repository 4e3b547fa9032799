/* Rules held: a reader sees the old text or the new one, never half; a failed publish leaves the old file and
 * no temporary one; a killed writer's leftover does not hinder the next. Full disks are met in
 * tests/e2e/test_storage.py. */
#include "base/fd.h"
#include "store/publish.h"
#include "store/test_scratch.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <kho/error.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    char *folder, *path, *temporary;
} Fixture;

static void
set_up(Fixture *f, gconstpointer unused)
{
    f->folder = scratch_make();
    f->path = g_build_filename(f->folder, "x.xml", NULL);
    f->temporary = g_build_filename(f->folder, ".x.xml.kho-tmp", NULL);
}

static void
tear_down(Fixture *f, gconstpointer unused)
{
    scratch_remove(f->folder);
    g_free(f->path);
    g_free(f->temporary);
}

static void
assert_holds(Fixture *f, const char *text)
{
    g_autofree char *got = fd_read_file(f->path, 1 << 20, NULL, NULL);

    g_assert_cmpstr(got, ==, text);
    g_assert_false(g_file_test(f->temporary, G_FILE_TEST_EXISTS));
}

static void
test_publish(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    struct stat st;

    g_assert_true(store_publish(f->path, "one", 3, 0640, &error));
    assert_holds(f, "one");
    g_assert_cmpint(g_stat(f->path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 07777, ==, 0640);

    g_assert_true(g_file_set_contents(f->temporary, "torn", -1, NULL));
    g_assert_true(store_publish(f->path, "two", 3, 0600, &error));
    assert_holds(f, "two");

    g_assert_true(g_file_set_contents(f->temporary, "torn", -1, NULL));
    g_assert_true(store_unlink(f->path, &error));
    assert_holds(f, NULL);
    g_assert_false(store_unlink(f->path, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_NOT_FOUND);
}

/* A file size limit makes write(2) fail part way, as a full disk does. */
static void
test_write_fails(Fixture *f, gconstpointer unused)
{
    static char big[65536];
    g_autoptr(GError) error = NULL;
    struct rlimit before, limit;

    memset(big, 'b', sizeof big);
    g_assert_true(store_publish(f->path, "old", 3, 0644, NULL));
    sigaction(SIGXFSZ, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 4096;
    setrlimit(RLIMIT_FSIZE, &limit);
    gboolean done = store_publish(f->path, big, sizeof big, 0644, &error);
    setrlimit(RLIMIT_FSIZE, &before);

    g_assert_false(done);
    g_assert_error(error, KHO_ERROR, KHO_ERROR_NO_SPACE);
    assert_holds(f, "old");
}

/* rename(2) fails because a folder stands at the place. */
static void
test_rename_fails(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(g_mkdir(f->path, 0755), ==, 0);
    g_assert_false(store_publish(f->path, "new", 3, 0644, &error));
    g_assert_nonnull(error);
    g_assert_false(g_file_test(f->temporary, G_FILE_TEST_EXISTS));
    g_clear_error(&error);
    g_assert_false(store_publish_link(f->path, "../x", &error));
    g_assert_nonnull(error);
    g_assert_false(g_file_test(f->temporary, G_FILE_TEST_IS_SYMLINK));
}

/* A writer is killed after the n-th thing that it did to the folder, for 40 n: each time the file is whole.
 */
static void
test_killed_writer(Fixture *f, gconstpointer unused)
{
    static char texts[2][8192];

    memset(texts[0], 'a', sizeof texts[0]);
    memset(texts[1], 'b', sizeof texts[1]);
    g_assert_true(store_publish(f->path, texts[0], sizeof texts[0], 0644, NULL));
    for (guint round = 0; round < 40; round++) {
        gsize len = 0;
        int events = scratch_watch(f->folder, IN_ALL_EVENTS);
        pid_t pid = fork();
        if (pid == 0)
            for (guint i = 0;; i++)
                store_publish(f->path, texts[i % 2], sizeof texts[0], 0644, NULL);
        scratch_await(events, 1 + round);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(events);
        g_autofree char *got = fd_read_file(f->path, 1 << 20, &len, NULL);
        g_assert_cmpuint(len, ==, sizeof texts[0]);
        g_assert_true(memcmp(got, texts[got[0] == 'b'], len) == 0);
    }
    g_assert_true(store_publish(f->path, "end", 3, 0644, NULL));
    assert_holds(f, "end");
}

static void
test_autostart(Fixture *f, gconstpointer unused)
{
    g_autofree char *folder = g_build_filename(f->folder, "autostart", NULL);
    g_autofree char *link = g_build_filename(folder, "x.xml", NULL);

    g_assert_cmpint(g_mkdir(folder, 0755), ==, 0);
    g_assert_true(store_publish(f->path, "x", 1, 0644, NULL));
    g_assert_false(store_autostart_get(link));
    g_assert_true(store_autostart_set(link, FALSE, NULL));
    for (guint again = 0; again < 2; again++)
        g_assert_true(store_autostart_set(link, TRUE, NULL));
    g_assert_true(store_autostart_get(link));
    g_autofree char *through = fd_read_file(link, 10, NULL, NULL);
    g_assert_cmpstr(through, ==, "x");
    g_assert_true(store_autostart_set(link, FALSE, NULL));
    g_assert_false(store_autostart_get(link));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, fn) g_test_add("/store/publish/" name, Fixture, NULL, set_up, fn, tear_down)
    ADD("old-or-new", test_publish);
    ADD("write-fails", test_write_fails);
    ADD("rename-fails", test_rename_fails);
    ADD("killed-writer", test_killed_writer);
    ADD("autostart", test_autostart);
    return g_test_run();
}
