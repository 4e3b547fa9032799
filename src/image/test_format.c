/* Rules held: what is not raw is not taken for raw, since it would be written over; a raw disk may hold what
 * it likes. */
#include "image/format.h"

#include "base/error.h"

#include <string.h>

static const struct {
    const char *name;
    gsize off, len;
    const char *mark, *format; /* format: what it is probed as; NULL: foreign as of @foreign */
    const char *foreign;
} rows[] = {
    { "zeros", 0, 0, "", "raw", NULL },
    { "luks", 0, 6, "LUKS\xba\xbe", "raw", NULL },
    { "boot-sector", 510, 2, "\x55\xaa", "raw", NULL },
    { "qcow2", 0, 8, "QFI\xfb\0\0\0\3", "qcow2", NULL },
    { "qcow1", 0, 8, "QFI\xfb\0\0\0\1", NULL, "qcow" },
    { "vmdk", 0, 4, "KDMV", NULL, "vmdk" },
    { "vmdk-text", 0, 21, "# Disk DescriptorFile", NULL, "vmdk" },
    { "vdi", 64, 4, "\x7f\x10\xda\xbe", NULL, "vdi" },
    { "vhdx", 0, 8, "vhdxfile", NULL, "vhdx" },
    { "vpc", 0, 8, "conectix", NULL, "vpc" },
    { "qed", 0, 4, "QED\0", NULL, "qed" },
};

static void
test_probe(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    guint8 head[1024] = { 0 };
    g_autoptr(GError) error = NULL;

    memcpy(head + rows[i].off, rows[i].mark, rows[i].len);
    g_autoptr(BlkStore) file = blk_mem_new(head, sizeof head, "disk");
    FormatFound found;

    g_assert_true(format_probe(file, &found, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(found.foreign, ==, rows[i].foreign);
    g_assert_cmpstr(found.ops->name, ==, rows[i].foreign ? "raw" : rows[i].format);
}

/* Every length of a qcow2 image that was cut off: the magic alone says what it was. */
static void
test_cut(void)
{
    static const guint8 head[80] = { 'Q', 'F', 'I', 0xfb, 0, 0, 0, 3, 0 };

    for (gsize len = 4; len <= sizeof head; len++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(BlkStore) file = blk_mem_new(head, len, "disk");
        FormatFound found;

        g_assert_true(format_probe(file, &found, &error));
        g_assert_cmpstr(found.ops->name, ==, "qcow2");
        g_assert_null(format_open(found.ops, file, 0, &error));
        g_assert_nonnull(error);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strdup_printf("/format/probe/%s", rows[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_probe);
    }
    g_test_add_func("/format/cut", test_cut);
    return g_test_run();
}
