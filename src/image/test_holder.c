#include "image/holder.h"

#include "base/fd.h"
#include "image/lock.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static void
test_lines(void)
{
    const char *line = "lock:\t1: OFDLCK ADVISORY  READ -1 fe:00:10952964 100 101";

    g_assert_false(image_holder_line_locks(line, 99));
    g_assert_true(image_holder_line_locks(line, 100));
    g_assert_true(image_holder_line_locks(line, 101));
    g_assert_false(image_holder_line_locks(line, 102));
    g_assert_true(image_holder_line_locks("lock:\t3: OFDLCK  ADVISORY  WRITE -1 fe:00:7 5 EOF", 1000));
    g_assert_false(image_holder_line_locks("lock:\t1: POSIX  ADVISORY  WRITE 4711 fe:00:7 0 EOF", 100));
    g_assert_false(image_holder_line_locks("flags:\t02", 100));
    g_assert_false(image_holder_line_locks("lock:", 100));
}

static void
test_names(void)
{
    static const struct {
        const char *cmdline;
        gsize len;
        const char *name;
        gboolean is_machine;
    } rows[] = {
#define ROW(text, name, machine) { text, sizeof(text), name, machine }
        ROW("/usr/bin/qemu-system-x86_64\0-name\0guest=web1,debug-threads=on\0-m\0"
            "1G",
            "machine 'web1' (qemu-system-x86_64, pid 7)", TRUE),
        ROW("qemu-system-x86_64\0-name\0web,,1", "machine 'web,1' (qemu-system-x86_64, pid 7)", TRUE),
        ROW("qemu-io\0-f\0qcow2\0a.qcow2", "qemu-io (pid 7)", FALSE),
        ROW("qemu-system-x86_64\0-name", "qemu-system-x86_64 (pid 7)", FALSE),
        ROW("kho\0img\0check\0a\nb", "kho (pid 7)", FALSE),
        { "", 0, "? (pid 7)", FALSE },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        gboolean is_machine;
        g_autofree char *name = image_holder_name(rows[i].cmdline, rows[i].len, 7, &is_machine);

        g_assert_cmpstr(name, ==, rows[i].name);
        g_assert_cmpint(is_machine, ==, rows[i].is_machine);
    }
}

/* Opens @path anew, so that its locks are another holder's. */
static BlkStore *
open_store(const char *path, gboolean writable)
{
    g_autoptr(GError) error = NULL;
    BlkStore *store = blk_file_open(path, writable, &error);

    g_assert_no_error(error);
    return store;
}

static void
test_locks(void)
{
    g_autofree char *path = g_strdup_printf("%s/kho-lock-XXXXXX", g_get_tmp_dir());
    g_autofree char *pid = g_strdup_printf("pid %d)", (int) getpid());
    g_autoptr(GError) error = NULL;
    fd_auto int fd = g_mkstemp(path);

    {
        g_autoptr(BlkStore) reader = open_store(path, FALSE);
        g_autoptr(BlkStore) second = open_store(path, FALSE);
        g_autoptr(BlkStore) writer = open_store(path, TRUE);

        g_assert_true(image_lock(reader, IMAGE_LOCK_READ, &error));
        g_assert_true(image_lock(second, IMAGE_LOCK_READ, &error));
        g_assert_false(image_lock(writer, IMAGE_LOCK_WRITE, &error));
        g_assert_error(error, KHO_ERROR, KHO_ERROR_BUSY);
        g_assert_nonnull(strstr(error->message, pid));
        g_clear_error(&error);
    }
    {
        /* The refused writer kept no lock, and the readers' locks went with their descriptors. */
        g_autoptr(BlkStore) writer = open_store(path, TRUE);
        g_autoptr(BlkStore) reader = open_store(path, FALSE);

        g_assert_true(image_lock(writer, IMAGE_LOCK_WRITE, &error));
        g_assert_false(image_lock(reader, IMAGE_LOCK_READ, &error));
        g_assert_error(error, KHO_ERROR, KHO_ERROR_BUSY);
        g_clear_error(&error);
        g_clear_pointer(&writer, blk_free);
        g_assert_true(image_lock(reader, IMAGE_LOCK_READ, &error));
    }
    g_unlink(path);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/image/holder/lines", test_lines);
    g_test_add_func("/image/holder/names", test_names);
    g_test_add_func("/image/lock/conflicts", test_locks);
    return g_test_run();
}
