/* The head of a save file: what is written is read; each row breaks one rule. */
#include "base/crc.h"
#include "base/num.h"
#include "vm/savefile.h"

#include <string.h>

#define FILE_BYTES (VM_SAVEFILE_PAGE_BYTES * 2 + 1000 + 30)

static guint8 *
make(gsize *len)
{
    VmSaveHead head = {
        .qemu_version = VM_QEMU_VERSION(7, 2, 11),
        .whole = TRUE,
        .paused = TRUE,
        .saved_ms = 1234567890123,
        .live_xml = (char *) "<domain id='3'/>",
        .inactive_xml = (char *) "<domain/>",
        .stream_bytes = 1000,
        .stream_crc = 0xdeadbeef,
        .disks_bytes = 30,
        .disks_crc = 0x01020304,
    };
    guint8 *buf = vm_savefile_encode(&head, len, NULL);

    g_assert_cmpuint(*len, ==, 2 * VM_SAVEFILE_PAGE_BYTES);
    g_assert_cmpuint(head.stream_off, ==, *len);
    return buf;
}

static void
test_round(void)
{
    gsize len, need;
    g_autofree guint8 *buf = make(&len);
    g_autoptr(GError) error = NULL;

    g_assert_true(vm_savefile_head_bytes(buf, VM_SAVEFILE_PAGE_BYTES, "f", &need, &error));
    g_assert_cmpuint(need, ==, len);
    g_autoptr(VmSaveHead) head = vm_savefile_decode(buf, len, FILE_BYTES, "f", &error);
    g_assert_no_error(error);
    g_assert_true(head->whole && head->paused && !head->used && !head->snapshot);
    g_assert_cmpuint(head->qemu_version, ==, 70211);
    g_assert_cmpint(head->saved_ms, ==, 1234567890123);
    g_assert_cmpstr(head->live_xml, ==, "<domain id='3'/>");
    g_assert_cmpstr(head->inactive_xml, ==, "<domain/>");
    g_assert_cmpuint(head->stream_bytes, ==, 1000);
    g_assert_cmphex(head->stream_crc, ==, 0xdeadbeef);
    g_assert_cmpuint(head->disks_bytes, ==, 30);
    g_assert_cmphex(head->disks_crc, ==, 0x01020304);
}

/* The bytes themselves, so that a later kho reads what this one wrote. */
static void
test_snapshot(void)
{
    VmSaveHead head = { .snapshot = TRUE, .live_xml = (char *) "<domain/>" };
    gsize len;
    g_autofree guint8 *buf = vm_savefile_encode(&head, &len, NULL);
    g_autoptr(VmSaveHead) read = vm_savefile_decode(buf, len, len, "f", NULL);

    g_assert_true(read && read->snapshot && !read->whole && !read->paused);
}

static void
test_layout(void)
{
    gsize len;
    g_autofree guint8 *buf = make(&len);
    static const guint8 begins[] = { 'k', 'h', 'o', 'S', 'A', 'V', 'E', 0xff, 0, 0, 0, 1, 0, 0, 0, 5 };

    g_assert_cmpmem(buf, sizeof begins, begins, sizeof begins);
    g_assert_cmpuint(be32_load(buf + 24), ==, strlen("<domain id='3'/>"));
    g_assert_cmpuint(be32_load(buf + 28), ==, strlen("<domain/>"));
    g_assert_cmpuint(be64_load(buf + 32), ==, 1234567890123);
    g_assert_cmpuint(be64_load(buf + 40), ==, 2 * VM_SAVEFILE_PAGE_BYTES);
    g_assert_cmpuint(be64_load(buf + 48), ==, 1000);
    g_assert_cmphex(be32_load(buf + 56), ==, 0xdeadbeef);
    g_assert_cmpuint(be32_load(buf + 60), ==, 70211);
    g_assert_cmpuint(be32_load(buf + 64), ==, 30);
    g_assert_cmphex(be32_load(buf + 68), ==, 0x01020304);
    for (gsize i = 72; i < VM_SAVEFILE_PAGE_BYTES; i++)
        g_assert_cmpuint(buf[i], ==, 0);
    g_assert_cmpmem(buf + VM_SAVEFILE_PAGE_BYTES, 25, "<domain id='3'/><domain/>", 25);
}

/* Writes @value over 4 bytes at @off; where @mend, the page's own checksum is made right again. */
static const struct {
    const char *name;
    gsize off;
    guint32 value;
    gboolean mend;
    KhoErrorCode code;
    const char *says;
} rows[] = {
    { "magic", 0, 0, FALSE, KHO_ERROR_INVALID, "no save file" },
    { "version 2", 8, 2, FALSE, KHO_ERROR_UNSUPPORTED, "version 2" },
    { "version 0", 8, 0, TRUE, KHO_ERROR_UNSUPPORTED, "version 0" },
    { "garbled page", 60, 1, FALSE, KHO_ERROR_CORRUPT, "first page" },
    { "garbled end of the page", 4092, 1, FALSE, KHO_ERROR_CORRUPT, "first page" },
    { "unknown flag", 12, 16, TRUE, KHO_ERROR_UNSUPPORTED, "0x10" },
    { "no live XML", 24, 0, TRUE, KHO_ERROR_CORRUPT, "XML" },
    { "live XML too long", 24, VM_SAVEFILE_XML_MAX_BYTES + 1, TRUE, KHO_ERROR_CORRUPT, "XML" },
    { "inactive XML too long", 28, 0xffffffff, TRUE, KHO_ERROR_CORRUPT, "XML" },
    { "stream elsewhere", 44, 4096, TRUE, KHO_ERROR_CORRUPT, "begin" },
    { "XML longer than the head", 24, 4096, TRUE, KHO_ERROR_CORRUPT, "begin" },
    { "garbled XML", 4096, 1, TRUE, KHO_ERROR_CORRUPT, "checksum of its XML" },
    { "time", 32, 0x80000000, TRUE, KHO_ERROR_CORRUPT, "time" },
    { "stream too long", 52, 1001, TRUE, KHO_ERROR_CORRUPT, "truncated" },
    { "stream wraps", 48, 0xffffffff, TRUE, KHO_ERROR_CORRUPT, "truncated" },
    { "no stream", 52, 0, TRUE, KHO_ERROR_CORRUPT, "no memory" },
    { "list of disks is cut", 64, 31, TRUE, KHO_ERROR_CORRUPT, "truncated" },
    { "list of disks too long", 64, VM_SAVEFILE_DISKS_MAX_BYTES + 1, TRUE, KHO_ERROR_CORRUPT, "disks" },
};

static void
test_refuses(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data), len;
    g_autofree guint8 *buf = make(&len);
    g_autoptr(GError) error = NULL;

    be32_store(buf + rows[i].off, rows[i].value);
    if (rows[i].mend) {
        be32_store(buf + 16, 0);
        be32_store(buf + 16, crc32_add(0, buf, VM_SAVEFILE_PAGE_BYTES));
    }
    g_assert_null(vm_savefile_decode(buf, len, FILE_BYTES, "/x/f", &error));
    g_assert_error(error, KHO_ERROR, (gint) rows[i].code);
    g_assert_nonnull(strstr(error->message, rows[i].says));
    g_assert_nonnull(strstr(error->message, "/x/f"));
}

static void
test_short(void)
{
    gsize len, need;
    g_autofree guint8 *buf = make(&len);

    g_assert_false(vm_savefile_head_bytes(buf, VM_SAVEFILE_PAGE_BYTES - 1, "f", &need, NULL));
    for (gsize n = 0; n < len;
         n += 500) { /* each in memory of its own, where a sanitizer sees reads past it */
        g_autofree guint8 *cut = g_memdup2(buf, n);
        g_assert_null(vm_savefile_decode(cut, n, FILE_BYTES, "f", NULL));
    }
    /* What is not whole need not hold its stream yet. */
    VmSaveHead begun = { .live_xml = (char *) "<domain/>" };
    g_autofree guint8 *first = vm_savefile_encode(&begun, &len, NULL);
    g_autoptr(VmSaveHead) head = vm_savefile_decode(first, len, len, "f", NULL);
    g_assert_nonnull(head);
    g_assert_false(head->whole);
    g_assert_null(head->inactive_xml);
}

static void
test_too_long(void)
{
    g_autofree char *xml = g_strnfill(VM_SAVEFILE_XML_MAX_BYTES + 1, 'x');
    VmSaveHead head = { .live_xml = xml };
    g_autoptr(GError) error = NULL;
    gsize len;

    g_assert_null(vm_savefile_encode(&head, &len, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/savefile/round", test_round);
    g_test_add_func("/savefile/layout", test_layout);
    g_test_add_func("/savefile/snapshot", test_snapshot);
    g_test_add_func("/savefile/short", test_short);
    g_test_add_func("/savefile/too-long", test_too_long);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strdup_printf("/savefile/refuses/%s", rows[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_refuses);
    }
    return g_test_run();
}
