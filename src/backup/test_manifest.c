/* A manifest that was written is read again as it was; no bit of it can change unseen. */
#include "backup/manifest.h"

#include <string.h>

static KhoBackupPoint *
example(void)
{
    KhoBackupPoint *point = backup_point_new("web1", "one", "/store/web1/one");

    point->id = g_strdup("11111111-2222-3333-4444-555555555555");
    point->name = g_strdup("web1");
    point->uuid = g_strdup("7c1de0b2-4c9f-4b7e-9a55-0d6c7b9a1f00");
    point->when_ms = 1795246240792;
    point->state = g_strdup("running");
    point->kho_version = g_strdup("0.1.0");
    point->xml_bytes = 1205;
    point->xml_sha256 = g_strnfill(64, 'a');
    KhoBackupDisk *disk = backup_disk_add(point, "vda");
    disk->capacity_bytes = 1 << 30;
    disk->size_bytes = 12345;
    disk->sha256 = g_strnfill(64, '7');
    disk->compression = g_strdup("zstd");
    /* what looks like the text's own hash is none when it stands in a string */
    backup_left_out_add(point, "cdrom", "hdc", "/iso/\"manifest-sha256\": \"x.iso");
    return point;
}

static void
test_round_trip(void)
{
    g_autoptr(KhoBackupPoint) point = example(), read = backup_point_new("m", "p", "/s/m/p");
    g_autofree char *text = backup_manifest_format(point, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_true(backup_manifest_parse(text, strlen(text), "manifest.json", read, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(read->machine, ==, "m");
    g_assert_cmpstr(read->path, ==, "/s/m/p");
    g_assert_cmpstr(read->name, ==, "web1");
    g_assert_cmpint(read->when_ms, ==, point->when_ms);
    g_assert_null(read->qemu_version);
    const KhoBackupDisk *disk = read->disks->pdata[0];
    g_assert_cmpstr(disk->file, ==, "vda.qcow2");
    g_assert_cmpuint(disk->capacity_bytes, ==, 1 << 30);
    const KhoBackupLeftOut *left = read->left_out->pdata[0];
    g_assert_cmpstr(left->source, ==, "/iso/\"manifest-sha256\": \"x.iso");
    g_autofree char *again = backup_manifest_format(read, NULL);
    g_assert_cmpstr(again, ==, text);
}

static void
test_every_bit(void)
{
    g_autoptr(KhoBackupPoint) point = example(), read = backup_point_new("m", "p", "/s/m/p");
    g_autofree char *text = backup_manifest_format(point, NULL);
    gsize len = strlen(text);

    for (gsize bit = 0; bit < 8 * len; bit++) {
        g_autoptr(GError) error = NULL;

        text[bit / 8] ^= (char) (1 << bit % 8);
        g_assert_false(backup_manifest_parse(text, len, "manifest.json", read, &error));
        g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
        g_assert_null(read->name);
        text[bit / 8] ^= (char) (1 << bit % 8);
    }
    g_assert_true(backup_manifest_parse(text, len, "manifest.json", read, NULL));
}

static void
test_every_length(void)
{
    g_autoptr(KhoBackupPoint) point = example(), read = backup_point_new("m", "p", "/s/m/p");
    g_autofree char *text = backup_manifest_format(point, NULL);

    for (gsize len = 0; len < strlen(text); len++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(backup_manifest_parse(text, len, "manifest.json", read, &error));
        g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/backup/manifest/round-trip", test_round_trip);
    g_test_add_func("/backup/manifest/every-bit", test_every_bit);
    g_test_add_func("/backup/manifest/every-length", test_every_length);
    return g_test_run();
}
