/* A bitmap directory from bytes that nobody has checked: what decodes lies within the bounds, and encodes to
 * the same bytes where it has nothing that kho does not know. The first byte says how many bitmaps there are,
 * the second how large the clusters and the disk are. */
#include "qcow2/bitmap.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
look(const Qcow2Bitmap *b, const Qcow2Geometry *geo, const guint8 *directory)
{
    g_autoptr(GByteArray) again = g_byte_array_new();
    Qcow2Bitmap copy = *b;

    g_assert_cmpuint(strlen(b->name), >, 0);
    g_assert_cmpuint(strlen(b->name), <=, QCOW2_BITMAP_NAME_BYTES_MAX);
    g_assert_cmpuint(b->table_off % geo->cluster_bytes, ==, 0);
    g_assert_cmpuint(b->table_off, >, 0);
    g_assert_cmpuint(b->table_entries, >, 0);
    g_assert_cmpuint(b->table_entries * geo->cluster_bytes, <=, QCOW2_BITMAP_BYTES_MAX);
    if (b->unusable)
        return;
    qcow2_bitmap_encode(&copy, again);
    g_assert_cmpuint(again->len, ==, b->entry_bytes);
    g_assert_cmpmem(again->data, QCOW2_BITMAP_HEAD_BYTES + strlen(b->name), directory + b->entry_off,
                    QCOW2_BITMAP_HEAD_BYTES + strlen(b->name));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    const Qcow2Header header = { .version = 3,
                                 .cluster_bits = 9 + data[1] % 13,
                                 .guest_bytes = (guint64) (data[1] / 13) << 20,
                                 .refcount_order = 4 };
    g_autoptr(GError) error = NULL;
    Qcow2Geometry geo;

    qcow2_header_derive(&header, &geo);
    g_autoptr(GPtrArray) list = qcow2_bitmaps_decode(data + 2, len - 2, data[0], &header, &error);
    g_assert_true((list == NULL) == (error != NULL));
    for (guint i = 0; list && i < list->len; i++)
        look(list->pdata[i], &geo, data + 2);
    return 0;
}
