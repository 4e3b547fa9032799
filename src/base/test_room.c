/* What room_own says of files made in each way that gives a file blocks, or none. */
#include "base/room.h"

#include "base/fd.h"
#include "base/num.h"

#include <fcntl.h>
#include <glib/gstdio.h>

typedef struct {
    char *folder, *path;
    int fd;
} Fixture;

static void
set_up(Fixture *f, gconstpointer data)
{
    (void) data;
    f->folder = g_dir_make_tmp("kho-room-XXXXXX", NULL);
    f->path = g_build_filename(f->folder, "file", NULL);
    f->fd = fd_open(f->path, O_RDWR | O_CREAT | O_EXCL, 0600, NULL);
    g_assert_cmpint(f->fd, >=, 0);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    (void) data;
    fd_clear(&f->fd);
    g_unlink(f->path);
    g_rmdir(f->folder);
    g_free(f->path);
    g_free(f->folder);
}

/* A file system that does not tell is one answer; a wrong number is none. */
static void
expect(const Fixture *f, guint64 off, guint64 len, guint64 wanted)
{
    guint64 own;

    if (room_own(f->fd, off, len, &own))
        g_assert_cmpuint(own, ==, wanted);
}

static void
test_own(Fixture *f, gconstpointer data)
{
    g_autofree guint8 *bytes = g_malloc0(MIB);
    gboolean done;

    (void) data;
    expect(f, 0, ROOM_TO_END, 0);
    g_assert_true(fd_truncate(f->fd, 8 * MIB, f->path, NULL));
    expect(f, 0, ROOM_TO_END, 0);
    g_assert_true(fd_pwrite_full(f->fd, bytes, MIB, 2 * MIB, f->path, NULL));
    expect(f, 0, ROOM_TO_END, MIB);
    expect(f, 2 * MIB + 512, 1024, 1024);
    expect(f, MIB + 512, MIB, 512);
    expect(f, 3 * MIB - 512, MIB, 512);
    g_assert_true(fd_space(f->fd, FD_SPACE_RESERVE, 4 * MIB, MIB, &done, f->path, NULL));
    if (done)
        expect(f, 0, ROOM_TO_END, 2 * MIB);
    g_assert_true(fd_space(f->fd, FD_SPACE_PUNCH, 2 * MIB, 512 * KIB, &done, f->path, NULL));
    if (done)
        expect(f, 2 * MIB, MIB, 512 * KIB);
}

/* More extents than one look has room for. */
static void
test_many_extents(Fixture *f, gconstpointer data)
{
    g_autofree guint8 *bytes = g_malloc0(64 * KIB);

    (void) data;
    for (guint64 i = 0; i < 300; i++)
        g_assert_true(fd_pwrite_full(f->fd, bytes, 64 * KIB, i * 192 * KIB, f->path, NULL));
    expect(f, 0, ROOM_TO_END, 300 * 64 * KIB);
    expect(f, 192 * KIB, 298 * 192 * KIB, 298 * 64 * KIB);
}

static void
test_devices_have_it(void)
{
    fd_auto int fd = fd_open("/dev/null", O_RDWR, 0, NULL);
    guint64 own;

    g_assert_true(room_own(fd, 0, MIB, &own));
    g_assert_cmpuint(own, ==, MIB);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/room/own", Fixture, NULL, set_up, test_own, tear_down);
    g_test_add("/room/many-extents", Fixture, NULL, set_up, test_many_extents, tear_down);
    g_test_add_func("/room/devices", test_devices_have_it);
    return g_test_run();
}
