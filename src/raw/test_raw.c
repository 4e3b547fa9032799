/* Raw: runs follow the file's extents, the last sector is whole, places are in place. */
#include "raw/raw.h"

#include "base/fd.h"
#include "base/num.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>

static FormatImage *
open_mem(const char *bytes, gsize len)
{
    FormatImage *image = raw_format.open(blk_mem_new(bytes, len, "disk"), FORMAT_WRITABLE, NULL);

    g_assert_nonnull(image);
    return image;
}

static void
close_image(FormatImage *image)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(raw_format.close(image, &error));
    g_assert_no_error(error);
}

static void
test_last_sector(void)
{
    g_autofree char *bytes = g_strnfill(1000, 'a');
    FormatImage *image = open_mem(bytes, 1000);
    Run run = { 0 };

    g_assert_cmpuint(image->guest_bytes, ==, 1024);
    g_assert_true(raw_format.map(image, guest_off(10), 1014, &run, NULL));
    g_assert_cmpint(run.kind, ==, RUN_DATA);
    g_assert_true(run.allocated);
    g_assert_cmpuint(run.host.bytes, ==, 10);
    g_assert_cmpuint(run.bytes, ==, 990);
    g_assert_true(raw_format.map(image, guest_off(1000), 24, &run, NULL));
    g_assert_cmpint(run.kind, ==, RUN_ZERO);
    g_assert_cmpuint(run.bytes, ==, 24);
    close_image(image);
}

static void
test_holes(void)
{
    g_autofree char *folder = g_dir_make_tmp("kho-raw-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "disk", NULL);
    int fd = fd_open(path, O_RDWR | O_CREAT, 0600, NULL);
    guint64 data_bytes = 0, at = 0;
    Run run;

    g_assert_true(fd_truncate(fd, 4 * MIB, path, NULL));
    g_assert_true(fd_pwrite_full(fd, "x", 1, 2 * MIB, path, NULL));
    FormatImage *image = raw_format.open(blk_file_new(fd, path, TRUE), FORMAT_WRITABLE, NULL);
    for (; at < image->guest_bytes; at += run.bytes) {
        g_assert_true(raw_format.map(image, guest_off(at), image->guest_bytes - at, &run, NULL));
        g_assert_true(run.kind == RUN_DATA || run.kind == RUN_ZERO);
        g_assert_true(run.allocated == (run.kind == RUN_DATA));
        if (run.kind == RUN_DATA) {
            g_assert_cmpuint(run.host.bytes, ==, at);
            g_assert_true(at <= 2 * MIB && 2 * MIB < at + run.bytes);
            data_bytes += run.bytes;
        }
    }
    g_assert_cmpuint(at, ==, 4 * MIB);
    g_assert_cmpuint(data_bytes, >, 0);
    close_image(image);
    g_unlink(path);
    g_rmdir(folder);
}

static void
test_place(void)
{
    FormatImage *image = open_mem("0123456789", 10);
    Place place = { 0 };
    guint64 done = 0;
    char buf[10];

    g_assert_true(raw_format.prepare(image, guest_off(3), 4, &place, NULL));
    g_assert_true(place.in_place);
    g_assert_cmpuint(place.at.bytes, ==, 3);
    g_assert_cmpuint(place.host.bytes, ==, 3);
    g_assert_cmpuint(place.bytes, ==, 4);
    g_assert_true(raw_format.commit(image, &place, NULL));
    g_assert_true(raw_format.zero(image, guest_off(2), 5, &done, NULL));
    g_assert_cmpuint(done, ==, 5);
    g_assert_true(blk_pread(image->file, 0, buf, 10, NULL));
    g_assert_cmpmem(buf, 10,
                    "01\0\0\0\0\0"
                    "789",
                    10);
    close_image(image);
}

static void
test_resize(void)
{
    FormatImage *image = open_mem("", 0);
    g_autoptr(GError) error = NULL;
    guint64 file_bytes;

    g_assert_true(raw_format.resize(image, 1000, FALSE, NULL, NULL));
    g_assert_cmpuint(image->guest_bytes, ==, 1024);
    g_assert_true(blk_size(image->file, &file_bytes, NULL));
    g_assert_cmpuint(file_bytes, ==, 1000);
    g_assert_false(raw_format.resize(image, 512, FALSE, NULL, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, "disk"));
    g_assert_cmpuint(image->guest_bytes, ==, 1024);
    g_assert_true(raw_format.resize(image, 512, TRUE, NULL, NULL));
    g_assert_cmpuint(image->guest_bytes, ==, 512);
    g_assert_false(raw_format.resize(image, G_MAXUINT64, TRUE, NULL, NULL));
    g_assert_cmpuint(image->guest_bytes, ==, 512);
    close_image(image);
}

static void
test_check(void)
{
    FormatImage *image = open_mem("", 0);
    FormatCheck result = { 0 };
    FormatInfo info = { 0 };
    g_autoptr(GError) error = NULL;

    g_assert_false(raw_format.check(image, FORMAT_REPAIR_NONE, &result, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_UNSUPPORTED);
    g_assert_false(raw_format.probe((const guint8 *) "QFI\xfb", 4));
    g_assert_true(raw_format.info(image, &info, NULL));
    g_assert_null(info.backing_file);
    g_assert_cmpuint(info.snapshots->len, ==, 0);
    g_ptr_array_unref(info.snapshots);
    close_image(image);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/raw/last-sector", test_last_sector);
    g_test_add_func("/raw/holes", test_holes);
    g_test_add_func("/raw/place", test_place);
    g_test_add_func("/raw/resize", test_resize);
    g_test_add_func("/raw/check", test_check);
    return g_test_run();
}
