#include "qcow2/repair.h"

#include "base/error.h"
#include "qcow2/backing.h"
#include "qcow2/check.h"
#include "qcow2/copied.h"
#include "qcow2/entry.h"
#include "qcow2/flush.h"
#include "qcow2/refcount.h"

/* A refcount structure that is being made beside the old one. */
typedef struct {
    Qcow2Image *image;
    const Qcow2Header *to; /* what the header becomes; NULL: as it is */
    Qcow2Geometry geo;     /* the new structure's */
    Qcow2Check *check;     /* all references */
    Qcow2Words table;      /* the new refcount table */
    GHashTable *old;       /* cluster -> how often the old refcount structure refers to it */
    guint64 first; /* the new structure's first cluster: past everything that is referenced or in the file */
    GArray *indices; /* of guint64: the blocks needed, ascending; the i-th lies in cluster first + i */
    guint64 table_clusters;
} Rebuild;

static void
rebuild_clear(Rebuild *rebuild)
{
    qcow2_words_clear(&rebuild->table);
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
    guint64 all = qcow2_refmap_count(rebuild->check->map, cluster);
    guint64 old = MIN(old_references(rebuild, cluster), all);
    guint64 end = rebuild->first + rebuild->indices->len + rebuild->table_clusters;

    return cluster >= rebuild->first && cluster < end ? 1 : all - old;
}

/* The blocks that what is referenced needs, of one window. */
static gboolean
plan_window(Qcow2Check *check, gpointer data, GError **error)
{
    Rebuild *rebuild = data;
    guint64 entries = rebuild->geo.refblock_entries, next = qcow2_refmap_from(check->map);

    while ((next = qcow2_refmap_next(check->map, next)) != G_MAXUINT64) {
        guint64 index = next / entries;
        g_array_append_val(rebuild->indices, index);
        next = (index + 1) * entries;
    }
    return TRUE;
}

/* The blocks needed: for what is referenced, and, since they count themselves, for the new structure. */
static gboolean
plan(Rebuild *rebuild, GError **error)
{
    const Qcow2Geometry *geo = &rebuild->geo;
    guint64 entries = geo->refblock_entries, file_bytes;

    rebuild->indices = g_array_new(FALSE, FALSE, sizeof(guint64));
    if (!blk_size(rebuild->image->base.file, &file_bytes, error)
        || !qcow2_check_windows(rebuild->check, plan_window, rebuild, error))
        return FALSE;
    guint n = rebuild->indices->len;
    guint64 last = n > 0 ? g_array_index(rebuild->indices, guint64, n - 1) : G_MAXUINT64;

    rebuild->first = MAX(qcow2_refmap_end(rebuild->check->map), num_div_up(file_bytes, geo->cluster_bytes));
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
write_block(Rebuild *rebuild, guint i, guint8 *block, GError **error)
{
    const Qcow2Image *image = rebuild->image;
    const Qcow2Geometry *geo = &rebuild->geo;
    guint64 index = g_array_index(rebuild->indices, guint64, i), first = index * geo->refblock_entries;
    guint64 off = (rebuild->first + i) << geo->cluster_bits;

    for (guint64 j = 0; j < geo->refblock_entries; j++) {
        guint64 count = count_for(rebuild, first + j);
        if (count > geo->refcount_max)
            return fail(error, KHO_ERROR_CORRUPT,
                        "%s cannot be repaired: the cluster at byte %" G_GUINT64_FORMAT
                        " has %" G_GUINT64_FORMAT " references, more than %u bits count",
                        image->base.file->label, (first + j) << geo->cluster_bits, count, geo->refcount_bits);
        qcow2_refcount_store(block, j, geo->refcount_bits, count);
    }
    qcow2_words_set(&rebuild->table, index, off);
    return blk_pwrite(image->base.file, off, block, geo->cluster_bytes, error);
}

/* The blocks that count the clusters of one window. */
static gboolean
write_window(Qcow2Check *check, gpointer data, GError **error)
{
    Rebuild *rebuild = data;
    guint64 entries = rebuild->geo.refblock_entries;
    g_autofree guint8 *block = g_malloc(check->geo.cluster_bytes);

    for (guint i = 0; i < rebuild->indices->len; i++) {
        guint64 first = g_array_index(rebuild->indices, guint64, i) * entries;
        if (first >= qcow2_refmap_from(check->map) && first < qcow2_refmap_limit(check->map)
            && !write_block(rebuild, i, block, error))
            return FALSE;
    }
    return TRUE;
}

/* All of the header changes in one write. */
static gboolean
name_structure(const Rebuild *rebuild, GError **error)
{
    Qcow2Image *image = rebuild->image;
    Qcow2Header to = rebuild->to ? *rebuild->to : image->header;

    to.reftable_off = rebuild->table.off;
    to.reftable_clusters = (guint32) rebuild->table_clusters;
    if (rebuild->to)
        return qcow2_header_change_locked(image, &to, FALSE, error);
    image->header = to;
    if (qcow2_header_write_locked(image, error))
        return TRUE;
    image->broken = TRUE;
    return FALSE;
}

/* The new structure is whole and durable before the header names it. Rule: TABLE_BEFORE_POINTER. */
static gboolean
switch_structure(Rebuild *rebuild, GError **error)
{
    Qcow2Image *image = rebuild->image;

    qcow2_words_init(&rebuild->table, (rebuild->first + rebuild->indices->len) << image->geo.cluster_bits,
                     (rebuild->table_clusters << image->geo.cluster_bits) / 8, NULL);
    if (!qcow2_check_windows(rebuild->check, write_window, rebuild, error)
        || !qcow2_words_write(&rebuild->table, image->base.file, error)
        || !qcow2_barrier(image, QCOW2_RULE_TABLE_BEFORE_POINTER, error) || !name_structure(rebuild, error))
        return FALSE;
    qcow2_cache_drop_all(&image->cache);
    qcow2_words_clear(&image->reftable);
    image->reftable = rebuild->table;
    rebuild->table = (Qcow2Words){ 0 };
    qcow2_header_derive(&image->header, &image->geo);
    image->free_hint = 0;
    image->writing = FALSE;
    return TRUE;
}

/* @to: what the header becomes in the same write; NULL: as it is. */
static gboolean
rebuild_from(Qcow2Image *image, Qcow2Check *check, const Qcow2Header *to, GError **error)
{
    g_auto(Rebuild) rebuild = { .image = image, .check = check, .to = to };

    if (check->result->check_errors > 0)
        return fail(error, KHO_ERROR_CORRUPT,
                    "%s cannot be repaired: %" G_GUINT64_FORMAT " of its tables cannot be read",
                    image->base.file->label, check->result->check_errors);
    qcow2_header_derive(to ? to : &image->header, &rebuild.geo);
    count_old_structure(&rebuild);
    if (!plan(&rebuild, error) || !switch_structure(&rebuild, error)
        || !qcow2_barrier(image, QCOW2_RULE_ONE_BEFORE_COPIED, error)
        || !qcow2_copied_restore_locked(image, error) || !qcow2_flush_locked(image, TRUE, error))
        return FALSE;
    if (!(image->header.incompat & QCOW2_INCOMPAT_DIRTY))
        return TRUE;
    /* The mark goes last: until here, whoever opens the image starts over. */
    image->header.incompat &= ~(guint64) QCOW2_INCOMPAT_DIRTY;
    return qcow2_header_write_locked(image, error) && qcow2_flush_locked(image, TRUE, error);
}

gboolean
qcow2_recount_as_locked(Qcow2Image *image, const Qcow2Header *to, GError **error)
{
    FormatCheck found = { 0 };
    Qcow2Geometry geo;

    qcow2_header_derive(to, &geo);
    g_auto(Qcow2Check) check = { .file = image->base.file,
                                 .room_bytes = image->check_room_bytes,
                                 .step = MAX(geo.refblock_entries, image->geo.refblock_entries),
                                 .result = &found };
    if (!qcow2_check_begin(&check, error) || !qcow2_check_run(&check, error))
        return FALSE;
    if (found.check_errors > 0 || found.corruptions > found.copied_missing)
        return fail(error, KHO_ERROR_CORRUPT, "%s is corrupt: check and repair it first",
                    image->base.file->label);
    return rebuild_from(image, &check, to, error);
}

gboolean
qcow2_rebuild_refcounts_locked(Qcow2Image *image, GError **error)
{
    FormatCheck found = { 0 };
    g_auto(Qcow2Check)
        check = { .file = image->base.file, .room_bytes = image->check_room_bytes, .result = &found };

    return qcow2_check_begin(&check, error) && qcow2_check_run(&check, error)
           && rebuild_from(image, &check, NULL, error);
}

/* Counts above the references fall to them, of one window; nothing refers to what is freed, so no order is
 * needed. */
static gboolean
lower_window(Qcow2Check *check, gpointer data, GError **error)
{
    Qcow2Image *image = data;
    guint64 entries = image->geo.refblock_entries, limit = qcow2_refmap_limit(check->map);

    for (guint64 i = qcow2_refmap_from(check->map) / entries; i < image->reftable.n && i * entries < limit;
         i++) {
        Qcow2Table *block;
        if (!qcow2_refblock_get(image, i * entries, &block, error))
            return FALSE;
        for (guint64 j = 0; block && j < entries; j++) {
            guint64 references = qcow2_refmap_count(check->map, i * entries + j);
            if (qcow2_refcount_load(block->bytes, j, image->geo.refcount_bits) > references)
                qcow2_refblock_set(image, block, i * entries + j, references);
        }
        if (!qcow2_settle_locked(image, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
lower_leaks(Qcow2Image *image, Qcow2Check *check, GError **error)
{
    const FormatCheck *before = check->result;

    if (!qcow2_check_windows(check, lower_window, image, error))
        return FALSE;
    image->free_hint = 0;
    if (!qcow2_write_refblocks_locked(image, error) || !qcow2_flush_locked(image, TRUE, error))
        return FALSE;
    /* What has fallen to one may be written in place again, where no count may be too low. */
    return before->corruptions > before->copied_missing || before->check_errors > 0
           || (qcow2_barrier(image, QCOW2_RULE_ONE_BEFORE_COPIED, error)
               && qcow2_copied_restore_locked(image, error) && qcow2_flush_locked(image, TRUE, error));
}

static gboolean
repair_locked(Qcow2Image *image, Qcow2Check *check, FormatRepair repair, GError **error)
{
    const FormatCheck *before = check->result;
    gboolean marked = (image->header.incompat & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT)) != 0;

    if (!(image->base.flags & FORMAT_WRITABLE))
        return fail(error, KHO_ERROR_DENIED, "%s is open for reading only", image->base.file->label);
    if (!qcow2_load_l1_locked(image, error) || !qcow2_load_reftable_locked(image, error))
        return FALSE;
    if (repair == FORMAT_REPAIR_ALL && (marked || before->corruptions > 0 || before->check_errors > 0))
        return rebuild_from(image, check, NULL, error);
    return before->leaks == 0 || lower_leaks(image, check, error);
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
    FormatCheck before = { .messages = result->messages }, after = { 0 };
    g_auto(Qcow2Check) check = {
        .file = format->file, .room_bytes = image->check_room_bytes, .result = &before, .job = result->job
    };

    if ((format->flags & FORMAT_WRITABLE) && !image->broken && !qcow2_flush_locked(image, TRUE, error))
        return FALSE;
    if (!qcow2_check_begin(&check, error) || !qcow2_check_run(&check, error))
        return FALSE;
    check.job = NULL; /* what has begun is ended */
    if (repair == FORMAT_REPAIR_NONE) {
        *result = before;
        return TRUE;
    }
    if (!repair_locked(image, &check, repair, error) || !qcow2_check_file(format->file, &after, NULL, error))
        return FALSE;
    if (after.corruptions == 0 && after.check_errors == 0 && !trust_again(image, error))
        return FALSE;
    after.messages = before.messages;
    after.corruptions_fixed = fallen(before.corruptions, after.corruptions);
    after.leaks_fixed = fallen(before.leaks, after.leaks);
    *result = after;
    return TRUE;
}
