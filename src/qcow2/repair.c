#include "qcow2/repair.h"

#include "base/error.h"
#include "qcow2/check.h"
#include "qcow2/copied.h"
#include "qcow2/entry.h"
#include "qcow2/flush.h"
#include "qcow2/refcount.h"

/* A refcount structure that is being made beside the old one. */
typedef struct {
    Qcow2Image *image;
    Qcow2RefMap *map;
    GHashTable *old; /* cluster -> how often the old refcount structure refers to it */
    guint64 first; /* the new structure's first cluster: past everything that is referenced or in the file */
    GArray *indices; /* of guint64: the blocks needed, ascending; the i-th lies in cluster first + i */
    guint64 table_clusters;
} Rebuild;

static void
rebuild_clear(Rebuild *rebuild)
{
    g_clear_pointer(&rebuild->map, qcow2_refmap_free);
    g_clear_pointer(&rebuild->old, g_hash_table_unref);
    g_clear_pointer(&rebuild->indices, g_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Rebuild, rebuild_clear)

static guint64
old_references(const Rebuild *rebuild, guint64 cluster)
{
    return GPOINTER_TO_SIZE(g_hash_table_lookup(rebuild->old, GSIZE_TO_POINTER(cluster)));
}

static void
count_old(Rebuild *rebuild, guint64 cluster)
{
    g_hash_table_insert(rebuild->old, GSIZE_TO_POINTER(cluster),
                        GSIZE_TO_POINTER(old_references(rebuild, cluster) + 1));
}

/* What the old structure refers to; wrong entries were counted by nobody. */
static void
count_old_structure(Rebuild *rebuild)
{
    const Qcow2Image *image = rebuild->image;

    rebuild->old = g_hash_table_new(NULL, NULL);
    for (guint64 i = 0; i < image->header.reftable_clusters; i++)
        count_old(rebuild, (image->header.reftable_off >> image->geo.cluster_bits) + i);
    for (guint64 i = 0; i < image->reftable.n; i++) {
        guint64 off;
        if (!qcow2_reftable_decode(image->reftable.words[i], &image->header, &off) && off != 0)
            count_old(rebuild, off >> image->geo.cluster_bits);
    }
}

/* What the count of @cluster shall be. */
static guint64
count_for(const Rebuild *rebuild, guint64 cluster)
{
    guint64 all = qcow2_refmap_count(rebuild->map, cluster);
    guint64 old = MIN(old_references(rebuild, cluster), all);
    guint64 end = rebuild->first + rebuild->indices->len + rebuild->table_clusters;

    return cluster >= rebuild->first && cluster < end ? 1 : all - old;
}

/* The blocks needed: for what is referenced, and, since they count themselves, for the new structure. */
static gboolean
plan(Rebuild *rebuild, GError **error)
{
    const Qcow2Geometry *geo = &rebuild->image->geo;
    guint64 entries = geo->refblock_entries, file_bytes, next = 0, last = G_MAXUINT64;

    if (!blk_size(rebuild->image->base.file, &file_bytes, error))
        return FALSE;
    rebuild->first = MAX(qcow2_refmap_end(rebuild->map), num_div_up(file_bytes, geo->cluster_bytes));
    rebuild->indices = g_array_new(FALSE, FALSE, sizeof(guint64));
    while ((next = qcow2_refmap_next(rebuild->map, next)) != G_MAXUINT64 && next < rebuild->first) {
        last = next / entries;
        g_array_append_val(rebuild->indices, last);
        next = (last + 1) * entries;
    }
    for (;;) {
        guint64 end = rebuild->first + rebuild->indices->len + rebuild->table_clusters;
        guint64 top = MAX((end - 1) / entries, last == G_MAXUINT64 ? 0 : last);
        guint64 table_clusters = num_div_up((top + 1) * 8, geo->cluster_bytes);
        guint64 from = MAX(rebuild->first / entries, last == G_MAXUINT64 ? 0 : last + 1);
        if (table_clusters == rebuild->table_clusters && from > (end - 1) / entries)
            break;
        rebuild->table_clusters = table_clusters;
        for (guint64 i = from; i <= (end - 1) / entries; i++)
            g_array_append_val(rebuild->indices, i);
        last = MAX(top, last == G_MAXUINT64 ? 0 : last);
    }
    if (rebuild->table_clusters << geo->cluster_bits > QCOW2_REFTABLE_BYTES_MAX)
        return fail(error, KHO_ERROR_NO_SPACE, "%s: a new refcount table would pass 8 MiB",
                    rebuild->image->base.file->label);
    return TRUE;
}

static gboolean
write_blocks(const Rebuild *rebuild, Qcow2Words *table, GError **error)
{
    const Qcow2Image *image = rebuild->image;
    guint64 entries = image->geo.refblock_entries;
    g_autofree guint8 *block = g_malloc(image->geo.cluster_bytes);

    for (guint i = 0; i < rebuild->indices->len; i++) {
        guint64 index = g_array_index(rebuild->indices, guint64, i);
        guint64 off = (rebuild->first + i) << image->geo.cluster_bits;
        for (guint64 j = 0; j < entries; j++) {
            guint64 count = count_for(rebuild, index * entries + j);
            if (count > image->geo.refcount_max)
                return fail(error, KHO_ERROR_CORRUPT,
                            "%s cannot be repaired: the cluster at byte %" G_GUINT64_FORMAT
                            " has %" G_GUINT64_FORMAT " references, more than %u bits count",
                            image->base.file->label, (index * entries + j) << image->geo.cluster_bits, count,
                            image->geo.refcount_bits);
            qcow2_refcount_store(block, j, image->geo.refcount_bits, count);
        }
        if (!blk_pwrite(image->base.file, off, block, image->geo.cluster_bytes, error))
            return FALSE;
        qcow2_words_set(table, index, off);
    }
    return qcow2_words_write(table, image->base.file, error);
}

/* The new structure is whole and durable before the header names it. Rule: TABLE_BEFORE_POINTER. */
static gboolean
switch_structure(Rebuild *rebuild, GError **error)
{
    Qcow2Image *image = rebuild->image;
    Qcow2Words table;

    qcow2_words_init(&table, (rebuild->first + rebuild->indices->len) << image->geo.cluster_bits,
                     (rebuild->table_clusters << image->geo.cluster_bits) / 8, NULL);
    if (!write_blocks(rebuild, &table, error)
        || !qcow2_barrier(image, QCOW2_RULE_TABLE_BEFORE_POINTER, error)) {
        qcow2_words_clear(&table);
        return FALSE;
    }
    qcow2_cache_drop_all(&image->cache);
    qcow2_words_clear(&image->reftable);
    image->reftable = table;
    image->header.reftable_off = table.off;
    image->header.reftable_clusters = (guint32) rebuild->table_clusters;
    qcow2_header_derive(&image->header, &image->geo);
    image->free_hint = 0;
    image->writing = FALSE;
    if (qcow2_header_write_locked(image, error))
        return TRUE;
    image->broken = TRUE;
    return FALSE;
}

static gboolean
rebuild_from(Qcow2Image *image, Qcow2RefMap *map, GError **error)
{
    g_auto(Rebuild) rebuild = { .image = image, .map = map };

    count_old_structure(&rebuild);
    if (!plan(&rebuild, error) || !switch_structure(&rebuild, error)
        || !qcow2_barrier(image, QCOW2_RULE_ONE_BEFORE_COPIED, error)
        || !qcow2_copied_restore_locked(image, error) || !qcow2_flush_locked(image, TRUE, error))
        return FALSE;
    /* The mark goes last: until here, whoever opens the image starts over. */
    image->header.incompat &= ~(guint64) QCOW2_INCOMPAT_DIRTY;
    return qcow2_header_write_locked(image, error) && qcow2_flush_locked(image, TRUE, error);
}

gboolean
qcow2_rebuild_refcounts_locked(Qcow2Image *image, GError **error)
{
    FormatCheck found = { 0 };
    Qcow2RefMap *map = NULL;

    if (!qcow2_check_file(image->base.file, &found, &map, NULL, error))
        return FALSE;
    if (found.check_errors == 0)
        return rebuild_from(image, map, error);
    qcow2_refmap_free(map);
    return fail(error, KHO_ERROR_CORRUPT,
                "%s cannot be repaired: %" G_GUINT64_FORMAT " of its tables cannot be read",
                image->base.file->label, found.check_errors);
}

/* Counts above the references fall to them; nothing refers to what is freed, so no order is needed. */
static gboolean
lower_leaks(Qcow2Image *image, const FormatCheck *before, const Qcow2RefMap *map, GError **error)
{
    guint64 entries = image->geo.refblock_entries;

    for (guint64 i = 0; i < image->reftable.n; i++) {
        Qcow2Table *block;
        if (!qcow2_refblock_get(image, i * entries, &block, error))
            return FALSE;
        for (guint64 j = 0; block && j < entries; j++) {
            guint64 references = qcow2_refmap_count(map, i * entries + j);
            if (qcow2_refcount_load(block->bytes, j, image->geo.refcount_bits) > references)
                qcow2_refblock_set(image, block, i * entries + j, references);
        }
        if (!qcow2_settle_locked(image, error))
            return FALSE;
    }
    image->free_hint = 0;
    if (!qcow2_write_refblocks_locked(image, error) || !qcow2_flush_locked(image, TRUE, error))
        return FALSE;
    /* What has fallen to one may be written in place again, where no count may be too low. */
    return before->corruptions > before->copied_missing || before->check_errors > 0
           || (qcow2_barrier(image, QCOW2_RULE_ONE_BEFORE_COPIED, error)
               && qcow2_copied_restore_locked(image, error) && qcow2_flush_locked(image, TRUE, error));
}

static gboolean
repair_locked(Qcow2Image *image, const FormatCheck *before, Qcow2RefMap *map, FormatRepair repair,
              GError **error)
{
    gboolean marked = (image->header.incompat & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT)) != 0;

    if (!(image->base.flags & FORMAT_WRITABLE))
        return fail(error, KHO_ERROR_DENIED, "%s is open for reading only", image->base.file->label);
    if (!qcow2_load_l1_locked(image, error) || !qcow2_load_reftable_locked(image, error))
        return FALSE;
    if (repair == FORMAT_REPAIR_ALL && (marked || before->corruptions > 0 || before->check_errors > 0))
        return qcow2_rebuild_refcounts_locked(image, error);
    return before->leaks == 0 || lower_leaks(image, before, map, error);
}

static guint64
fallen(guint64 before, guint64 after)
{
    return before > after ? before - after : 0;
}

/* What a check has found sound may be written again, by everybody. */
static gboolean
trust_again(Qcow2Image *image, GError **error)
{
    g_clear_pointer(&image->refusal, g_free);
    image->found_corrupt = FALSE;
    if (!(image->header.incompat & QCOW2_INCOMPAT_CORRUPT))
        return TRUE;
    image->header.incompat &= ~(guint64) QCOW2_INCOMPAT_CORRUPT;
    return qcow2_header_write_locked(image, error) && qcow2_flush_locked(image, TRUE, error);
}

gboolean
qcow2_check(FormatImage *format, FormatRepair repair, FormatCheck *result, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
    g_autoptr(Qcow2RefMap) map = NULL;
    FormatCheck before = { .messages = result->messages }, after = { 0 };

    if ((format->flags & FORMAT_WRITABLE) && !image->broken && !qcow2_flush_locked(image, TRUE, error))
        return FALSE;
    if (!qcow2_check_file(format->file, &before, &map, result->job, error))
        return FALSE;
    if (repair == FORMAT_REPAIR_NONE) {
        *result = before;
        return TRUE;
    }
    if (!repair_locked(image, &before, map, repair, error)
        || !qcow2_check_file(format->file, &after, NULL, NULL, error))
        return FALSE;
    if (after.corruptions == 0 && after.check_errors == 0 && !trust_again(image, error))
        return FALSE;
    after.messages = before.messages;
    after.corruptions_fixed = fallen(before.corruptions, after.corruptions);
    after.leaks_fixed = fallen(before.leaks, after.leaks);
    *result = after;
    return TRUE;
}
