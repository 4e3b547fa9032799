/* For the tests of store/ and above: a folder of their own, removed with all it holds; events of a folder.
 * Tests only. */
#ifndef KHO_STORE_TEST_SCRATCH_H
#define KHO_STORE_TEST_SCRATCH_H

#include <ftw.h>
#include <glib.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

static inline int
scratch_remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    return remove(path);
}

/* Removes @folder and frees its name. */
static inline void
scratch_remove(char *folder)
{
    g_assert_cmpint(nftw(folder, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS), ==, 0);
    g_free(folder);
}

static inline char *
scratch_make(void)
{
    GError *error = NULL;
    char *folder = g_dir_make_tmp("kho-test-XXXXXX", &error);

    g_assert_no_error(error);
    return folder;
}

/* A descriptor on which each event of @mask at @path can be waited for. */
static inline int
scratch_watch(const char *path, guint32 mask)
{
    int fd = inotify_init1(IN_CLOEXEC);

    g_assert_cmpint(inotify_add_watch(fd, path, mask), >=, 0);
    return fd;
}

/* Waits until at least @n events came. */
static inline void
scratch_await(int fd, guint n)
{
    char events[4096] __attribute__((aligned(8)));

    while (n > 0) {
        gssize len = read(fd, events, sizeof events);
        g_assert_cmpint(len, >, 0);
        for (gssize at = 0; at < len && n > 0; n--)
            at += (gssize) sizeof(struct inotify_event)
                  + (gssize) ((const struct inotify_event *) (const void *) (events + at))->len;
    }
}

#endif
