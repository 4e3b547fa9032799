/* A snapshot table from bytes that nobody has checked: what is read lies within the bounds, and reads the
 * same when it is written. The first byte says how many snapshots there are, the second how large the
 * clusters are; the file pretends to be large, so that L1 tables have room. */
#include "base/num.h"
#include "block/blk.h"
#include "qcow2/snapshot.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
look(const Qcow2Snapshot *s, const Qcow2Header *header, guint64 file_bytes)
{
    guint64 cluster = G_GUINT64_CONSTANT(1) << header->cluster_bits;

    g_assert_cmpuint(s->guest_bytes, <=, NUM_OFFSET_MAX);
    g_assert_cmpuint(s->l1_entries, <=, QCOW2_L1_BYTES_MAX / 8);
    g_assert_cmpuint(g_bytes_get_size(s->extra), <=, QCOW2_SNAPSHOT_EXTRA_BYTES_MAX);
    if (s->l1_entries == 0)
        return;
    g_assert_cmpuint(s->l1_off % cluster, ==, 0);
    g_assert_cmpuint(s->l1_off, >=, cluster);
    g_assert_cmpuint(s->l1_off + s->l1_entries * 8ull, <=, file_bytes);
}

static void
check_same(const GPtrArray *snapshots, const Qcow2Header *header, guint64 file_bytes)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    guint64 table_bytes;

    g_byte_array_set_size(bytes, (guint) header->snapshots_off);
    memset(bytes->data, 0, bytes->len);
    for (guint i = 0; i < snapshots->len; i++)
        qcow2_snapshot_encode(snapshots->pdata[i], bytes);
    g_autoptr(BlkStore) file = blk_mem_new(bytes->data, bytes->len, "image");
    g_assert_true(blk_truncate(file, MAX(file_bytes, bytes->len), NULL));
    g_autoptr(GPtrArray) again = qcow2_snapshots_read(file, header, &table_bytes, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(table_bytes, ==, bytes->len - header->snapshots_off);
    for (guint i = 0; i < snapshots->len; i++) {
        const Qcow2Snapshot *had = snapshots->pdata[i], *has = again->pdata[i];
        g_assert_cmpstr(has->id, ==, had->id);
        g_assert_cmpstr(has->name, ==, had->name);
        g_assert_cmpuint(has->l1_off, ==, had->l1_off);
        g_assert_cmpuint(has->guest_bytes, ==, had->guest_bytes);
        g_assert_cmpuint(has->vm_clock_ns, ==, had->vm_clock_ns);
        g_assert_cmpuint(has->vm_state_bytes, ==, had->vm_state_bytes);
        g_assert_cmpint(has->icount, ==, had->icount);
        g_assert_true(g_bytes_equal(has->extra, had->extra));
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const guint64 sizes[] = { 0, MIB };

    if (len < 2)
        return 0;
    const Qcow2Header header = { .version = 3,
                                 .cluster_bits = 9 + data[1] % 13,
                                 .guest_bytes = (guint64) (data[1] / 13) << 20,
                                 .refcount_order = 4,
                                 .snapshots = data[0],
                                 .snapshots_off = 512 };
    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autoptr(BlkStore) file = blk_mem_new(NULL, 0, "image");
        g_autoptr(GError) error = NULL;
        guint64 file_bytes;

        g_assert_true(blk_pwrite(file, header.snapshots_off, data + 2, len - 2, NULL)
                      && (sizes[i] == 0 || blk_truncate(file, sizes[i], NULL))
                      && blk_size(file, &file_bytes, NULL));
        g_autoptr(GPtrArray) snapshots = qcow2_snapshots_read(file, &header, NULL, &error);
        g_assert_true((snapshots == NULL) == (error != NULL));
        for (guint s = 0; snapshots && s < snapshots->len; s++)
            look(snapshots->pdata[s], &header, file_bytes);
        if (snapshots && snapshots->len > 0)
            check_same(snapshots, &header, file_bytes);
    }
    return 0;
}
