/* Making an image: the header, the refcount table and its first block, then everything else by the functions
 * that grow an image, and the header written last. The layout of an empty image is qemu-img's: header in
 * cluster 0, refcount table in 1, its block in 2, L1 table in 3. Spec: docs/spec/qcow2.md, sections 2 to 4.
 */
#include "base/error.h"
#include "qcow2/crypt.h"
#include "qcow2/flush.h"
#include "qcow2/l2.h"
#include "qcow2/qcow2.h"
#include "qcow2/refcount.h"
#include "qcow2/resize.h"

#include <string.h>

#define FIRST_CLUSTERS 3 /* header, refcount table, refcount block */

static gboolean
text_fits(const char *text, const char *what, GError **error)
{
    gsize len = text ? strlen(text) : 0;

    if (len > QCOW2_BACKING_BYTES)
        return fail(error, KHO_ERROR_INVALID, "the %s is %" G_GSIZE_FORMAT " bytes long: at most %u fit",
                    what, len, QCOW2_BACKING_BYTES);
    return TRUE;
}

static gboolean
check_numbers(const Qcow2CreateOptions *o, GError **error)
{
    if (!num_is_pow2(o->cluster_bytes) || o->cluster_bytes < 1 << QCOW2_CLUSTER_BITS_MIN
        || o->cluster_bytes > 1 << QCOW2_CLUSTER_BITS_MAX)
        return fail(error, KHO_ERROR_INVALID,
                    "a cluster size of %u bytes is not a power of two from 512 to 2M", o->cluster_bytes);
    if (o->version < 2 || o->version > 3)
        return fail(error, KHO_ERROR_INVALID, "qcow2 version %u does not exist: there are 2 and 3",
                    o->version);
    if (!num_is_pow2(o->refcount_bits) || o->refcount_bits > 64)
        return fail(error, KHO_ERROR_INVALID,
                    "a refcount width of %u bits is not a power of two from 1 to 64", o->refcount_bits);
    if (o->guest_bytes > NUM_OFFSET_MAX)
        return fail(error, KHO_ERROR_INVALID, "a size of %" G_GUINT64_FORMAT " bytes is too large",
                    o->guest_bytes);
    /* An L2 table maps cluster^2 / 8 bytes: 32 KiB with the smallest clusters. */
    guint entry_bytes = o->extended_l2 ? 16 : 8;
    guint64 l1_entries =
        num_div_up(o->guest_bytes, (guint64) o->cluster_bytes * (o->cluster_bytes / entry_bytes));
    if (l1_entries > QCOW2_L1_BYTES_MAX / 8)
        return fail(error, KHO_ERROR_INVALID,
                    "a size of %" G_GUINT64_FORMAT
                    " bytes is too large for clusters of %u bytes: use larger ones",
                    o->guest_bytes, o->cluster_bytes);
    return TRUE;
}

static gboolean
check_options(const Qcow2CreateOptions *o, GError **error)
{
    if (!check_numbers(o, error) || !text_fits(o->backing_file, "backing file's name", error)
        || !text_fits(o->backing_format, "backing format", error)
        || !text_fits(o->data_file, "data file's name", error))
        return FALSE;
    if (o->version == 2 && o->refcount_bits != 16)
        return fail(error, KHO_ERROR_INVALID, "qcow2 version 2 has 16-bit refcounts: use version 3");
    if (o->version == 2 && o->lazy_refcounts)
        return fail(error, KHO_ERROR_INVALID, "qcow2 version 2 has no lazy refcounts: use version 3");
    if (o->version == 2 && o->compression != QCOW2_COMPRESSION_ZLIB)
        return fail(error, KHO_ERROR_INVALID, "qcow2 version 2 compresses with zlib only: use version 3");
    if (o->version == 2 && o->extended_l2)
        return fail(error, KHO_ERROR_INVALID, "qcow2 version 2 has no extended L2 entries: use version 3");
    if (o->version == 2 && o->data_file)
        return fail(error, KHO_ERROR_INVALID, "qcow2 version 2 has no external data files: use version 3");
    if (o->data_file_raw && !o->data_file)
        return fail(error, KHO_ERROR_INVALID, "data_file_raw is about a data file, and none is named");
    if (o->data_file_raw && o->backing_file)
        return fail(error, KHO_ERROR_INVALID,
                    "a data file that is raw holds the whole disk: there cannot be a backing file, too");
    if (o->extended_l2 && o->cluster_bytes < QCOW2_EXTENDED_CLUSTER_BYTES_MIN)
        return fail(error, KHO_ERROR_INVALID,
                    "extended L2 entries need clusters of at least %u bytes, and not of %u",
                    QCOW2_EXTENDED_CLUSTER_BYTES_MIN, o->cluster_bytes);
    return TRUE;
}

static Qcow2Header
first_header(const Qcow2CreateOptions *o)
{
    gboolean zstd = o->compression == QCOW2_COMPRESSION_ZSTD;

    return (Qcow2Header){
        .magic = QCOW2_MAGIC,
        .version = o->version,
        .cluster_bits = (guint32) __builtin_ctz(o->cluster_bytes),
        .crypt_method = o->luks ? QCOW2_CRYPT_LUKS : QCOW2_CRYPT_NONE,
        .reftable_off = o->cluster_bytes,
        .reftable_clusters = 1,
        .incompat = (zstd ? QCOW2_INCOMPAT_COMPRESSION : 0)
                    | (o->extended_l2 ? QCOW2_INCOMPAT_EXTENDED_L2 : 0)
                    | (o->data_file ? QCOW2_INCOMPAT_DATA_FILE : 0),
        .autoclear = o->data_file_raw ? QCOW2_AUTOCLEAR_RAW_DATA_FILE : 0,
        .compat = o->lazy_refcounts ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0,
        .refcount_order = (guint32) __builtin_ctz(o->refcount_bits),
        .header_bytes = o->version == 2 ? QCOW2_V2_BYTES : QCOW2_FIELDS_BYTES,
        .compression = (guint8) o->compression,
    };
}

/* The first cluster: fields, extensions, the backing file's name. NULL where they do not fit in it. */
static guint8 *
first_cluster(const Qcow2CreateOptions *o, Qcow2Header *header, GError **error)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    gsize name_bytes = o->backing_file ? strlen(o->backing_file) : 0;
    g_autoptr(GByteArray) features = g_byte_array_new();
    const gsize end_bytes = 8;

    g_byte_array_set_size(bytes, header->header_bytes);
    memset(bytes->data, 0, bytes->len);
    if (o->backing_format)
        qcow2_extension_append(bytes, (guint32) QCOW2_EXT_BACKING_FORMAT, o->backing_format,
                               strlen(o->backing_format));
    if (o->luks)
        qcow2_crypt_append_extension(bytes, o->luks);
    if (o->data_file)
        qcow2_extension_append(bytes, QCOW2_EXT_DATA_FILE, o->data_file, strlen(o->data_file));
    /* Names of features are for other programs' messages: left out where the cluster is too small for them.
     */
    qcow2_extension_append_feature_names(features);
    if (o->version >= 3 && bytes->len + features->len + end_bytes + name_bytes <= o->cluster_bytes)
        g_byte_array_append(bytes, features->data, features->len);
    qcow2_extension_append(bytes, QCOW2_EXT_END, NULL, 0);
    if (bytes->len + name_bytes > o->cluster_bytes) {
        fail(error, KHO_ERROR_INVALID, "the %s does not fit in a cluster of %u bytes beside the header",
             o->data_file ? "data file's name" : "backing file's name", o->cluster_bytes);
        return NULL;
    }
    if (name_bytes > 0) {
        header->backing_off = bytes->len;
        header->backing_bytes = (guint32) name_bytes;
        g_byte_array_append(bytes, (const guint8 *) o->backing_file, (guint) name_bytes);
    }
    qcow2_header_encode(header, bytes->data, bytes->len);
    guint8 *cluster = g_malloc0(o->cluster_bytes);
    memcpy(cluster, bytes->data, bytes->len);
    return cluster;
}

/* Refcount table and block as they count the first three clusters: with the narrowest blocks that is as many
 * as fit (512 bytes hold 64 counts of 64 bits). */
static void
first_tables(Qcow2Image *image)
{
    guint64 cluster = image->geo.cluster_bytes;

    qcow2_words_init(&image->l1, 0, 0, NULL);
    qcow2_words_init(&image->reftable, cluster, image->geo.reftable_entries, NULL);
    qcow2_words_set(&image->reftable, 0, 2 * cluster);
    Qcow2Table *block = qcow2_cache_add(&image->cache, QCOW2_TABLE_REFBLOCK, 2 * cluster);
    for (guint64 c = 0; c < FIRST_CLUSTERS; c++)
        qcow2_refblock_set(image, block, c, 1);
    qcow2_guard_mark(&image->guard, 0, FIRST_CLUSTERS);
    image->writing = TRUE;
    image->no_header = TRUE;
}

/* Everything but the header's first sector is written and durable, then that sector: it makes the file an
 * image, and a crash cannot tear it, as it could a cluster with a long backing file's name. Rule:
 * TABLE_BEFORE_POINTER. */
static gboolean
write_all(Qcow2Image *image, const Qcow2CreateOptions *o, LuksKey *key, GError **error)
{
    BlkStore *file = image->base.file;

    if ((o->guest_bytes > 0 && !qcow2_grow_locked(image, o->guest_bytes, error))
        || (o->luks && !qcow2_crypt_format_locked(image, o->luks, key, error))
        || !qcow2_flush_locked(image, FALSE, error) || !qcow2_write_refcounts_locked(image, error)
        || !blk_pwrite(file, QCOW2_SECTOR_BYTES, image->head + QCOW2_SECTOR_BYTES,
                       image->geo.cluster_bytes - QCOW2_SECTOR_BYTES, error)
        || !qcow2_barrier(image, QCOW2_RULE_TABLE_BEFORE_POINTER, error)
        || !blk_pwrite(file, 0, image->head, QCOW2_SECTOR_BYTES, error))
        return FALSE;
    return (image->base.flags & FORMAT_UNPUBLISHED) || blk_flush(file, error);
}

gboolean
qcow2_create(BlkStore *empty, const Qcow2CreateOptions *options, GError **error)
{
    g_auto(LuksKey) key = { .len = 0 };

    return qcow2_create_keyed(empty, options, &key, error);
}

gboolean
qcow2_create_keyed(BlkStore *empty, const Qcow2CreateOptions *options, LuksKey *key, GError **error)
{
    Qcow2CreateOptions o = *options;

    o.cluster_bytes = o.cluster_bytes ? o.cluster_bytes : 64 * KIB;
    o.version = o.version ? o.version : 3;
    o.refcount_bits = o.refcount_bits ? o.refcount_bits : 16;
    if (!check_options(&o, error))
        return FALSE;
    Qcow2Header header = first_header(&o);
    guint8 *head = first_cluster(&o, &header, error);
    if (!head)
        return FALSE;
    Qcow2Image *image = qcow2_image_new(empty, &header, head,
                                        FORMAT_WRITABLE | (o.unpublished ? FORMAT_UNPUBLISHED : 0), error);
    if (!image) {
        g_free(head);
        return FALSE;
    }
    image->borrowed = TRUE;
    first_tables(image);
    g_mutex_lock(&image->meta);
    gboolean done = write_all(image, &o, key, error);
    g_mutex_unlock(&image->meta);
    qcow2_image_free(image);
    return done;
}
