/* libkho as a program outside this project sees it: only include/kho/ and the shared library. Linking proves
 * that what the headers declare is exported; running, that it works without anything of ours around it. */
#include <kho/host.h>
#include <kho/image_convert.h>
#include <kho/save.h>

#include <glib/gstdio.h>
#include <string.h>

#define SIZE_BYTES (8u << 20)

static void
test_image_round_trip(void)
{
    g_autofree char *folder = g_dir_make_tmp("kho-api-XXXXXX", NULL);
    g_autofree char *image = g_build_filename(folder, "disk.qcow2", NULL);
    g_autofree char *copy = g_build_filename(folder, "copy.raw", NULL);
    g_autoptr(GError) error = NULL;
    const KhoImageCreate create = { .format = "qcow2", .size_bytes = SIZE_BYTES };
    const KhoImageConvert convert = { .source_format = "qcow2", .target = { .format = "raw" } };
    char wrote[100000], seen[sizeof wrote];

    for (gsize i = 0; i < sizeof wrote; i++)
        wrote[i] = (char) (i * 31);

    g_assert_true(kho_image_create(image, &create, NULL, NULL, &error));
    g_assert_false(kho_image_create(image, &create, NULL, NULL, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_EXISTS);
    g_clear_error(&error);

    KhoImage *disk = kho_image_open(image, "qcow2", KHO_IMAGE_WRITE, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(kho_image_size_bytes(disk), ==, SIZE_BYTES);
    g_assert_true(kho_image_write(disk, 12345, wrote, sizeof wrote, &error));
    g_assert_true(kho_image_close(disk, &error));

    g_assert_true(kho_image_convert(image, copy, &convert, NULL, NULL, &error));
    disk = kho_image_open(copy, "raw", KHO_IMAGE_READ, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(kho_image_read(disk, 12345, seen, sizeof seen, &error));
    g_assert_cmpmem(seen, sizeof seen, wrote, sizeof wrote);
    kho_image_free(disk);

    KhoImageCheck check;
    g_assert_true(kho_image_check(image, "qcow2", KHO_REPAIR_NONE, KHO_IMAGE_READ, &check, NULL, &error));
    g_assert_cmpuint(check.corruptions + check.leaks, ==, 0);
    kho_image_check_clear(&check);

    g_remove(image);
    g_remove(copy);
    g_rmdir(folder);
}

/* Every code has a name of its own. */
static void
test_error_names(void)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint code = 0; code < KHO_ERROR_N_CODES; code++)
        g_assert_true(g_hash_table_add(names, (gpointer) kho_error_code_name(code)));
}

static void
test_save_no_file(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(kho_save_file_xml("/nowhere/web1.save", &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_NOT_FOUND);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/libkho/image/round-trip", test_image_round_trip);
    g_test_add_func("/libkho/save/no-file", test_save_no_file);
    g_test_add_func("/libkho/error/names", test_error_names);
    return g_test_run();
}
