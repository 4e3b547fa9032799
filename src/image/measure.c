/* How long the file of an image would be. Facts: docs/spec/qcow2.md, sections 2 to 4; the figures are those
 * of qemu-img measure. */
#include "base/error.h"
#include "base/num.h"
#include "image/bitmaps.h"
#include "image/encryption.h"
#include "image/image.h"
#include "image/target.h"

#include <kho/image_compare.h>

#define TABLE_ENTRY_BYTES     8
#define EXTENDED_ENTRY_BYTES  16
#define DEFAULT_CLUSTER_BYTES 65536
#define DEFAULT_REFCOUNT_BITS 16
/* QEMU's own limit, and the format's as kho has it. */
#define L1_BYTES_MAX (32 * MIB)

/* Refcount blocks and their table count themselves too: the least number of clusters that counts @clusters
 * others and itself. */
static guint64
refcount_clusters(guint64 clusters, guint64 cluster, guint refcount_bits)
{
    guint64 counts_a_block = cluster * 8 / refcount_bits;
    guint64 blocks = 0, tables = 0, before;

    do {
        before = blocks + tables;
        blocks = num_div_up(clusters + before, counts_a_block);
        tables = num_div_up(blocks, cluster / TABLE_ENTRY_BYTES);
    } while (blocks + tables != before);
    return blocks + tables;
}

/* Of a disk of @disk bytes, whole clusters: everything but the data, all tables made. */
static gboolean
metadata_bytes(const KhoImageCreate *options, guint64 disk, guint64 *bytes, GError **error)
{
    guint64 cluster = options->cluster_bytes ? options->cluster_bytes : DEFAULT_CLUSTER_BYTES;
    guint bits = options->refcount_bits ? options->refcount_bits : DEFAULT_REFCOUNT_BITS;

    guint64 l2 = num_div_up(disk / cluster,
                            cluster / (options->extended_l2 ? EXTENDED_ENTRY_BYTES : TABLE_ENTRY_BYTES));
    guint64 l1_bytes = l2 * TABLE_ENTRY_BYTES;
    if (l1_bytes > L1_BYTES_MAX)
        return fail(error, KHO_ERROR_INVALID,
                    "a disk of %" G_GUINT64_FORMAT " bytes is too large for clusters of %" G_GUINT64_FORMAT
                    " bytes",
                    disk, cluster);
    guint64 clusters = 1 + l2 + num_div_up(l1_bytes, cluster);
    *bytes = (clusters + refcount_clusters(clusters + disk / cluster, cluster, bits)) * cluster;
    return TRUE;
}

/* Of the header that keeps the keys, in whole clusters. */
static gboolean
luks_bytes(const KhoImageCreate *options, guint64 cluster, guint64 *bytes, GError **error)
{
    LuksSpec spec;

    *bytes = 0;
    if (!options->encryption)
        return TRUE;
    if (!encryption_read_spec(options, &spec, error))
        return FALSE;
    *bytes = num_align_up(luks_room_bytes(&spec), cluster);
    return TRUE;
}

/* What the chain of @source holds, in whole clusters of @cluster bytes. */
static gboolean
data_bytes(KhoImage *source, guint64 cluster, guint64 *bytes, const KhoJob *job, GError **error)
{
    guint64 size = kho_image_size_bytes(source), next;

    *bytes = 0;
    for (guint64 at = 0; at < size; at = next) {
        KhoMapEntry e;

        if (kho_job_is_cancelled(job))
            return fail(error, KHO_ERROR_CANCELLED, "cancelled");
        if (!kho_image_map(source, at, size - at, &e, error))
            return FALSE;
        next = at + e.length_bytes;
        if (e.reads_zero)
            continue;
        next = num_align_up(next, cluster);
        *bytes += next - num_align_down(at, cluster);
    }
    return TRUE;
}

gboolean
kho_image_measure(const KhoImageCreate *options, KhoImage *source, KhoImageMeasure *measure,
                  const KhoJob *job, GError **error)
{
    guint64 size = source ? kho_image_size_bytes(source) : options->size_bytes;
    guint64 cluster = options->cluster_bytes ? options->cluster_bytes : DEFAULT_CLUSTER_BYTES;
    guint64 metadata = 0, keys = 0, data = 0;

    if (size > NUM_OFFSET_MAX - IMAGE_SECTOR_BYTES)
        return fail(error, KHO_ERROR_INVALID, "a disk of %" G_GUINT64_FORMAT " bytes is too large", size);
    size = num_align_up(size, IMAGE_SECTOR_BYTES);
    if (g_str_equal(options->format, "raw")) {
        *measure = (KhoImageMeasure){ size, size, 0 };
        return TRUE;
    }
    if (g_str_equal(options->format, "luks")) {
        if (!luks_bytes(options, LUKS_ALIGN_BYTES, &keys, error))
            return FALSE;
        keys += source ? size : options->size_bytes; /* not in whole sectors, as QEMU counts it */
        *measure = (KhoImageMeasure){ keys, keys, 0 };
        return TRUE;
    }
    if (size > NUM_OFFSET_MAX / 2)
        return fail(error, KHO_ERROR_INVALID, "a disk of %" G_GUINT64_FORMAT " bytes is too large", size);
    guint64 disk = num_align_up(size, cluster);
    if (!metadata_bytes(options, disk, &metadata, error) || !luks_bytes(options, cluster, &keys, error))
        return FALSE;
    metadata += keys;
    /* Over a backing file it is not known what will be the same. */
    gboolean all = (source && options->backing_file) || options->prealloc == KHO_PREALLOC_FALLOC
                   || options->prealloc == KHO_PREALLOC_FULL;
    if (source && !all && !data_bytes(source, cluster, &data, job, error))
        return FALSE;
    *measure = (KhoImageMeasure){ metadata + (all ? disk : data), metadata + disk, 0 };
    return !source || options->qcow2_version == 2
           || bitmaps_measure(source, cluster, &measure->bitmaps_bytes, error);
}
