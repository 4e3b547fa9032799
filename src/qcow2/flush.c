#include "qcow2/flush.h"

#include "base/error.h"
#include "qcow2/bitmap_track.h"
#include "qcow2/l1.h"
#include "qcow2/packed.h"
#include "qcow2/refcount.h"

/* Dirty metadata that start a cycle: 4 MiB, and at least 8 tables for the largest clusters. */
#define DIRTY_BYTES      (4 * MIB)
#define DIRTY_MIN_TABLES 8

#ifdef KHO_MUTANTS
guint qcow2_mutant;
#endif

static gboolean
barrier_now(Qcow2Image *image, gboolean with_data, GError **error)
{
    if ((!with_data || !qcow2_has_data(image) || blk_flush(image->base.data, error))
        && blk_flush(image->base.file, error))
        return TRUE;
    image->broken = TRUE;
    return FALSE;
}

gboolean
qcow2_barrier(Qcow2Image *image, guint rules, GError **error)
{
    gboolean with_data =
        rules == QCOW2_RULE_NONE
        || (rules
            & (QCOW2_RULE_DATA_BEFORE_L2 | QCOW2_RULE_DATA_BEFORE_BACKING | QCOW2_RULE_DATA_FILE_BEFORE_L2));

    if (image->base.flags & FORMAT_UNPUBLISHED)
        return TRUE;
#ifdef KHO_MUTANTS
    if (qcow2_mutated(rules)) {
        image->owes_barrier = TRUE;
        return TRUE;
    }
    if (with_data && qcow2_has_data(image) && qcow2_mutated(QCOW2_RULE_DATA_FILE_BEFORE_L2)) {
        image->owes_barrier = TRUE;
        with_data = FALSE;
    }
#endif
    return barrier_now(image, with_data, error);
}

/* A mutant changes the order within the image, never what a caller was promised: a barrier skipped is made up
 * for before the operation returns. */
static gboolean
pay_barrier(Qcow2Image *image, GError **error)
{
#ifdef KHO_MUTANTS
    if (image->owes_barrier) {
        image->owes_barrier = FALSE;
        return barrier_now(image, TRUE, error);
    }
#endif
    return TRUE;
}

typedef enum { FRESH_REFBLOCKS, REFBLOCKS, FRESH_L2, USED_L2 } TableClass;

static TableClass
class_of(const Qcow2Table *table)
{
    if (table->kind == QCOW2_TABLE_REFBLOCK)
        return table->fresh ? FRESH_REFBLOCKS : REFBLOCKS;
    return table->fresh ? FRESH_L2 : USED_L2;
}

static gboolean
write_class(Qcow2Image *image, TableClass class, GError **error)
{
    if (image->cache.n_dirty == 0)
        return TRUE;
    g_autoptr(GPtrArray) dirty = qcow2_cache_dirty(&image->cache);
    for (guint i = 0; i < dirty->len; i++) {
        Qcow2Table *table = dirty->pdata[i];
        if (class_of(table) == class && !qcow2_table_write(&image->cache, table, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
any_dirty(const Qcow2Image *image, TableClass class)
{
    if (image->cache.n_dirty == 0)
        return FALSE;
    for (GList *link = image->cache.ages.head; link; link = link->next) {
        const Qcow2Table *table = link->data;
        if (table->dirty_from < table->dirty_to && class_of(table) == class)
            return TRUE;
    }
    return FALSE;
}

static gboolean
too_dirty(const Qcow2Image *image)
{
    return image->cache.n_dirty > MAX(DIRTY_BYTES / image->geo.cluster_bytes, DIRTY_MIN_TABLES);
}

gboolean
qcow2_write_refblocks_locked(Qcow2Image *image, GError **error)
{
    return write_class(image, FRESH_REFBLOCKS, error) && write_class(image, REFBLOCKS, error);
}

/* New blocks are durable before the refcount table names them. Rule: TABLE_BEFORE_POINTER. */
gboolean
qcow2_write_refcounts_locked(Qcow2Image *image, GError **error)
{
    if (!qcow2_write_refblocks_locked(image, error))
        return FALSE;
    if (!qcow2_words_dirty(&image->reftable))
        return TRUE;
    return qcow2_barrier(image, QCOW2_RULE_TABLE_BEFORE_POINTER | QCOW2_RULE_DATA_BEFORE_L2, error)
           && qcow2_words_write(&image->reftable, image->base.file, error);
}

static gboolean
mark_dirty(Qcow2Image *image, GError **error)
{
    image->header.incompat |= QCOW2_INCOMPAT_DIRTY;
    image->deferred = TRUE;
    return qcow2_header_write_locked(image, error);
}

/* Phase 3: what names clusters. */
static gboolean
write_references(Qcow2Image *image, GError **error)
{
    /* Written in full and durable by now; from here on the L1 table on disk may name them, even if a write
     * fails. */
    for (GList *link = image->cache.ages.head; link; link = link->next)
        ((Qcow2Table *) link->data)->fresh = FALSE;
    return write_class(image, USED_L2, error) && qcow2_words_write(&image->l1, image->base.file, error);
}

/* Nothing on disk names these clusters since phase 3, so a crash leaves leaks at most. Space is all that a
 * failure here costs, so it is not told. */
static void
give_back(Qcow2Image *image, const Qcow2Lower *lower, guint64 file_bytes)
{
    guint bits = image->geo.cluster_bits;
    guint64 end = lower->first + lower->n;

    for (guint64 c = lower->first, n; c < end; c += n) {
        guint64 count;
        if (!qcow2_refcount_run(image, c, end - c, &count, &n, NULL))
            return;
        guint64 to = MIN((c + n) << bits, file_bytes);
        if (count == 0 && c << bits < to)
            blk_zero(image->base.file, c << bits, to - (c << bits), BLK_ZERO_GIVE_BACK, NULL);
    }
}

static gint
by_first(gconstpointer a, gconstpointer b)
{
    const Qcow2Lower *x = a, *y = b;

    return x->first < y->first ? -1 : x->first > y->first;
}

/* In the file's order, neighbours as one: they were let go in the guest's, and what is given back piece by
 * piece costs the file system a transaction each. */
static void
join_lowers(GArray *lowers)
{
    guint n = 0;

    g_array_sort(lowers, by_first);
    for (guint i = 0; i < lowers->len; i++) {
        const Qcow2Lower next = g_array_index(lowers, Qcow2Lower, i);
        Qcow2Lower *last = n > 0 ? &g_array_index(lowers, Qcow2Lower, n - 1) : NULL;
        if (last && last->first + last->n == next.first)
            last->n += next.n;
        else
            g_array_index(lowers, Qcow2Lower, n++) = next;
    }
    g_array_set_size(lowers, n);
}

/* Phase 4: what phase 3 let go. */
gboolean
qcow2_lower_now_locked(Qcow2Image *image, GError **error)
{
    g_autoptr(GArray) lowers = g_steal_pointer(&image->lowers);
    guint64 file_bytes = 0;

    image->lowers = g_array_new(FALSE, FALSE, sizeof(Qcow2Lower));
    join_lowers(lowers);
    if ((image->give_back || image->moves) && !blk_size(image->base.file, &file_bytes, NULL))
        file_bytes = 0;
    for (guint i = 0; i < lowers->len; i++) {
        const Qcow2Lower *lower = &g_array_index(lowers, Qcow2Lower, i);
        if (!qcow2_refcount_lower(image, lower->first, lower->n, error))
            return FALSE; /* the rest leaks */
        if (file_bytes > 0)
            give_back(image, lower, file_bytes);
    }
    return TRUE;
}

static gboolean
barrier_before_references(Qcow2Image *image, GError **error)
{
    guint rules = QCOW2_RULE_DATA_BEFORE_L2 | image->references_serve;

    image->references_serve = 0;
    return qcow2_barrier(image, rules, error);
}

/* Phases 1 to 4. With lazy refcounts the blocks stay in memory, and a mark in the header stands for them. */
static gboolean
run_phases(Qcow2Image *image, gboolean lazy, GError **error)
{
    gboolean references = any_dirty(image, USED_L2) || qcow2_words_dirty(&image->l1);
    gboolean deferring =
        lazy && (image->lowers->len > 0 || any_dirty(image, FRESH_REFBLOCKS) || any_dirty(image, REFBLOCKS));
    gboolean mark = deferring && !(image->header.incompat & QCOW2_INCOMPAT_DIRTY);

    /* What needs new space first: where there is none, no count was raised on disk, and nothing leaks. */
    if (!write_class(image, FRESH_L2, error))
        return FALSE;
    if (!lazy && !qcow2_mutated(QCOW2_RULE_REFCOUNT_BEFORE_REFERENCE)
        && !qcow2_write_refcounts_locked(image, error))
        return FALSE;
    if (mark && !qcow2_mutated(QCOW2_RULE_DIRTY_BEFORE_DEFERRED) && !mark_dirty(image, error))
        return FALSE;
    if (references && (!barrier_before_references(image, error) || !write_references(image, error)))
        return FALSE;
    if (qcow2_mutated(QCOW2_RULE_REFCOUNT_BEFORE_REFERENCE) && !lazy
        && !qcow2_write_refcounts_locked(image, error))
        return FALSE;
    if (qcow2_mutated(QCOW2_RULE_DIRTY_BEFORE_DEFERRED) && mark && !mark_dirty(image, error))
        return FALSE;
    if (image->lowers->len == 0)
        return TRUE;
    return qcow2_barrier(image, QCOW2_RULE_L2_BEFORE_LOWER, error) && qcow2_lower_now_locked(image, error)
           && (lazy || qcow2_write_refblocks_locked(image, error));
}

gboolean
qcow2_flush_locked(Qcow2Image *image, gboolean durable, GError **error)
{
    if (image->broken)
        return fail(error, KHO_ERROR_IO, "%s takes no more writes: an earlier flush failed",
                    image->base.file->label);
    gboolean lowered = image->lowers->len > 0;
    if (!run_phases(image, qcow2_lazy(image) && !image->no_header && !too_dirty(image), error)
        || !qcow2_packed_finish_locked(image, error))
        return FALSE;
    qcow2_cache_trim(&image->cache);
    if (!pay_barrier(image, error))
        return FALSE;
    /* Where phase 4 ran, the barrier before it has made all references durable; lowered counts may be lost.
     * What was written in place in a data file may not have met one. */
    if (durable && (!lowered || qcow2_has_data(image) || (image->base.flags & FORMAT_UNPUBLISHED)))
        return barrier_now(image, TRUE, error);
    return TRUE;
}

gboolean
qcow2_settle_locked(Qcow2Image *image, GError **error)
{
    if (too_dirty(image))
        return qcow2_flush_locked(image, FALSE, error);
    qcow2_cache_trim(&image->cache);
    return TRUE;
}

/* Bitmaps that are in use can be believed again; not of an image that contradicts itself, where nothing more
 * is allocated. */
static gboolean
end_bitmaps(Qcow2Image *image, GError **error)
{
    return !image->bitmaps || !image->bitmaps->tracking || image->refusal
           || (qcow2_bitmaps_store_locked(image, error) && qcow2_flush_locked(image, TRUE, error));
}

/* The deferred refcounts are durable before the mark that excuses them goes. */
static gboolean
clear_dirty_mark(Qcow2Image *image, GError **error)
{
    if (!image->deferred)
        return TRUE;
    if (!run_phases(image, FALSE, error) || !pay_barrier(image, error)
        || !qcow2_barrier(image, QCOW2_RULE_NONE, error))
        return FALSE;
    image->header.incompat &= ~(guint64) QCOW2_INCOMPAT_DIRTY;
    return qcow2_header_write_locked(image, error) && barrier_now(image, TRUE, error);
}

/* The corrupt bit keeps everybody from writing before a repair, QEMU too. It comes last: what was committed
 * before is whole, and once the mark stands nothing more is written. Until then whoever opens the image meets
 * the same contradiction. */
static gboolean
mark_corrupt(Qcow2Image *image, GError **error)
{
    gboolean has_bit = image->header.version >= 3 && !(image->base.flags & FORMAT_UNPUBLISHED);
    gboolean is_marked = (image->header.incompat & QCOW2_INCOMPAT_CORRUPT) != 0;

    if (!image->found_corrupt || image->broken || !has_bit || is_marked || image->base.only_looks)
        return TRUE;
    image->header.incompat |= QCOW2_INCOMPAT_CORRUPT;
    return qcow2_header_write_locked(image, error) && barrier_now(image, TRUE, error);
}

gboolean
qcow2_flush(FormatImage *image, GError **error)
{
    Qcow2Image *qcow2 = qcow2_image(image);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&qcow2->meta);

    return !(image->flags & FORMAT_WRITABLE)
           || (qcow2_flush_locked(qcow2, TRUE, error) && mark_corrupt(qcow2, error));
}

gboolean
qcow2_close(FormatImage *image, GError **error)
{
    Qcow2Image *qcow2 = qcow2_image(image);
    gboolean done = TRUE;

    if (image->flags & FORMAT_WRITABLE) {
        g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&qcow2->meta);
        if (qcow2->held.is_set)
            qcow2_l1_take_back_locked(qcow2);
        done = qcow2_flush_locked(qcow2, TRUE, error) && end_bitmaps(qcow2, error)
               && clear_dirty_mark(qcow2, error);
        /* Also where the flush itself met it, which is the failure to be told then. */
        done = mark_corrupt(qcow2, done ? error : NULL) && done;
    }
    qcow2_image_free(qcow2);
    return done;
}
