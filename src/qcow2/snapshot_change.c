/* Making, deleting and reverting to internal snapshots. Each is one sequence of durable steps; the image is
 * used by nobody else meanwhile, and is flushed before it begins. A crash in between leaves clusters that
 * nothing names, or COPIED flags that are cleared where they need not be: neither loses data. */
#include "qcow2/snapshot_change.h"
#include "base/error.h"
#include "qcow2/bitmap_track.h"
#include "qcow2/copied.h"
#include "qcow2/flush.h"
#include "qcow2/qcow2.h"
#include "qcow2/reach.h"
#include "qcow2/refcount.h"
#include "qcow2/state.h"

#include <string.h>

/* Nothing durable names them any more: what becomes free is given back to the file system, a stretch at a
 * time. */
static gboolean
lower_and_give_back(Qcow2Image *image, guint64 first, guint64 n, gpointer data, GError **error)
{
    qcow2_refcount_lower_later(image, first, n);
    return image->lowers->len < QCOW2_LOWERS_MAX || qcow2_lower_now_locked(image, error);
}

static gboolean
lower_all(Qcow2Image *image, const Qcow2Words *l1, GError **error)
{
    Qcow2Reach all = { .func = lower_and_give_back, .left = G_MAXUINT64 };

    image->give_back = TRUE;
    gboolean done = qcow2_reach_each_locked(image, l1, &all, error) && qcow2_lower_now_locked(image, error);
    image->give_back = FALSE;
    return done;
}

static gboolean
raise_one(Qcow2Image *image, guint64 first, guint64 n, gpointer data, GError **error)
{
    (void) data;
    return qcow2_refcount_raise(image, first, n, error);
}

static gboolean
lower_one(Qcow2Image *image, guint64 first, guint64 n, gpointer data, GError **error)
{
    (void) data;
    return qcow2_refcount_lower(image, first, n, error);
}

/* All counts, or none: where one cannot rise, those that did are taken back. */
static gboolean
raise_all(Qcow2Image *image, const Qcow2Words *l1, GError **error)
{
    Qcow2Reach all = { .func = raise_one, .left = G_MAXUINT64 };

    if (qcow2_reach_each_locked(image, l1, &all, error))
        return TRUE;
    Qcow2Reach raised = { .func = lower_one, .left = G_MAXUINT64 - all.left };
    qcow2_reach_each_locked(image, l1, &raised, NULL); /* a failure leaks */
    return FALSE;
}

/* A snapshot's L1 table, or a new one at a place of its own. */
static gboolean
place_l1(Qcow2Image *image, const Qcow2Words *from, guint64 entries, Qcow2Words *l1, GError **error)
{
    guint64 clusters = num_div_up(entries * 8, image->geo.cluster_bytes), first = 0, got;

    if (clusters > 0 && !qcow2_alloc(image, clusters, TRUE, &first, &got, error))
        return FALSE;
    qcow2_words_init(l1, first << image->geo.cluster_bits, entries, from);
    for (guint64 i = 0; i < entries; i++)
        l1->words[i] &= ~QCOW2_ENTRY_COPIED;
    return qcow2_words_write(l1, image->base.file, error);
}

/* The list as a new table; the header will name it. *n_bytes is 0 for an empty list. */
static gboolean
place_table(Qcow2Image *image, GPtrArray *snapshots, guint64 *off, guint64 *n_bytes, GError **error)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    guint64 first, got;

    *off = *n_bytes = 0;
    for (guint i = 0; i < snapshots->len; i++)
        qcow2_snapshot_encode(snapshots->pdata[i], bytes);
    if (bytes->len == 0)
        return TRUE;
    if (bytes->len > QCOW2_SNAPSHOT_TABLE_BYTES_MAX)
        return fail(error, KHO_ERROR_NO_SPACE, "%s: its snapshot table would pass 64 MiB",
                    image->base.file->label);
    if (!qcow2_alloc(image, num_div_up(bytes->len, image->geo.cluster_bytes), TRUE, &first, &got, error))
        return FALSE;
    *off = first << image->geo.cluster_bits;
    *n_bytes = bytes->len;
    return blk_pwrite(image->base.file, *off, bytes->data, bytes->len, error);
}

/* Points the header at what was written: one write. @rules: what must be durable before it. */
static gboolean
switch_header(Qcow2Image *image, const Qcow2Header *to, guint rules, GError **error)
{
    if (!qcow2_write_refcounts_locked(image, error) || !qcow2_barrier(image, rules, error))
        return FALSE;
    /* The refcount table's place may have changed since @to was begun. */
    image->header.guest_bytes = to->guest_bytes;
    image->header.l1_off = to->l1_off;
    image->header.l1_entries = to->l1_entries;
    image->header.snapshots = to->snapshots;
    image->header.snapshots_off = to->snapshots_off;
    image->writing = FALSE; /* the guard is built anew */
    if (qcow2_header_write_locked(image, error))
        return TRUE;
    image->broken = TRUE;
    return FALSE;
}

static gboolean
lower_words(Qcow2Image *image, guint64 off, guint64 bytes, GError **error)
{
    guint64 n = num_div_up(bytes, image->geo.cluster_bytes);

    return n == 0 || qcow2_refcount_lower(image, off >> image->geo.cluster_bits, n, error);
}

static gboolean
begin(Qcow2Image *image, GPtrArray **snapshots, guint64 *table_bytes, GError **error)
{
    if (!qcow2_snapshots_possible(image, error) || !qcow2_begin_write_locked(image, error)
        || !qcow2_flush_locked(image, TRUE, error))
        return FALSE;
    *snapshots = qcow2_snapshots_read(image->base.file, &image->header, table_bytes, error);
    return *snapshots != NULL;
}

const Qcow2Snapshot *
qcow2_snapshot_find(Qcow2Image *image, GPtrArray *snapshots, guint index, GError **error)
{
    if (index < snapshots->len)
        return snapshots->pdata[index];
    fail(error, KHO_ERROR_NOT_FOUND, "%s has no snapshot number %u", image->base.file->label, index);
    return NULL;
}

/* Ids are numbers that count up. */
static char *
next_id(GPtrArray *snapshots)
{
    guint64 highest = 0, id;

    for (guint i = 0; i < snapshots->len; i++)
        if (g_ascii_string_to_unsigned(((Qcow2Snapshot *) snapshots->pdata[i])->id, 10, 0, G_MAXUINT32, &id,
                                       NULL))
            highest = MAX(highest, id);
    return g_strdup_printf("%" G_GUINT64_FORMAT, highest + 1);
}

static Qcow2Snapshot *
new_snapshot(Qcow2Image *image, GPtrArray *snapshots, const FormatSnapshotNew *new)
{
    Qcow2Snapshot *s = g_new0(Qcow2Snapshot, 1);
    guint8 extra[24];

    be64_store(extra, new->vm_state_bytes);
    be64_store(extra + 8, image->header.guest_bytes);
    be64_store(extra + 16, (guint64) new->icount);
    s->id = new->id ? g_strdup(new->id) : next_id(snapshots);
    s->name = g_strdup(new->name);
    s->date_s = new->date_s;
    s->date_ns = new->date_ns;
    s->vm_clock_ns = new->vm_clock_ns;
    s->vm_state_bytes = new->vm_state_bytes;
    s->guest_bytes = image->header.guest_bytes;
    s->icount = new->icount;
    s->extra = g_bytes_new(extra, sizeof extra);
    return s;
}

/* Counts have fallen, in memory: they are durable before COPIED is set, by the barrier that the flush makes
 * before it writes entries. Rule: ONE_BEFORE_COPIED. */
static gboolean
restore_copied(Qcow2Image *image, GError **error)
{
    if (!qcow2_flush_locked(image, FALSE, error) || !qcow2_write_refcounts_locked(image, error))
        return FALSE;
    image->references_serve = QCOW2_RULE_ONE_BEFORE_COPIED;
    gboolean done = qcow2_copied_restore_locked(image, error) && qcow2_flush_locked(image, TRUE, error);
    image->references_serve = 0;
    return done;
}

/* The snapshot becomes a second user of the active disk's clusters. Rule: COPIED_BEFORE_RAISE. */
static gboolean
share_clusters(Qcow2Image *image, GError **error)
{
    if (!qcow2_copied_clear_locked(image, &image->l1, error) || !qcow2_flush_locked(image, FALSE, error)
        || !qcow2_barrier(image, QCOW2_RULE_COPIED_BEFORE_RAISE, error))
        return FALSE;
    if (raise_all(image, &image->l1, error))
        return TRUE;
    restore_copied(image, NULL);
    return FALSE;
}

/* All of a snapshot but for the header: room for the copy of the L1 table and for the list that names it
 * first, since nothing needs space after that. */
static gboolean
place_snapshot(Qcow2Image *image, GPtrArray *snapshots, Qcow2Snapshot *s, guint64 *table_off, GError **error)
{
    Qcow2Words copy = { 0 }, with_state = { 0 };
    guint64 table_bytes = 0;

    qcow2_state_take_locked(image, &with_state);
    const Qcow2Words *from = with_state.words ? &with_state : &image->l1;
    gboolean placed = place_l1(image, from, from->n, &copy, error);
    qcow2_words_clear(&with_state);
    s->l1_off = copy.off;
    s->l1_entries = (guint32) copy.n;
    qcow2_words_clear(&copy);
    if (placed && place_table(image, snapshots, table_off, &table_bytes, error)
        && qcow2_write_refcounts_locked(image, error) && share_clusters(image, error))
        return TRUE;
    lower_words(image, s->l1_off, s->l1_entries * 8ull, NULL);
    lower_words(image, *table_off, table_bytes, NULL);
    return FALSE;
}

gboolean
qcow2_snapshot_may_create(Qcow2Image *image, GPtrArray *snapshots, GError **error)
{
    if (snapshots->len >= QCOW2_SNAPSHOTS_MAX)
        return fail(error, KHO_ERROR_NO_SPACE, "%s has %u snapshots, the most there may be",
                    image->base.file->label, snapshots->len);
    return image->geo.refcount_max >= 2
           || fail(error, KHO_ERROR_UNSUPPORTED, "%s cannot have snapshots: its refcounts hold 1 bit",
                   image->base.file->label);
}

/* Rules, in this order: COPIED_BEFORE_RAISE, SNAPSHOT_BEFORE_ENTRY (with TABLE_BEFORE_POINTER),
 * L2_BEFORE_LOWER for the old snapshot table. */
static gboolean
create_locked(Qcow2Image *image, const FormatSnapshotNew *new, GError **error)
{
    g_autoptr(GPtrArray) snapshots = NULL;
    guint64 old_bytes = 0;

    if (!begin(image, &snapshots, &old_bytes, error))
        return FALSE;
    if (!qcow2_snapshot_may_create(image, snapshots, error))
        return FALSE;
    g_assert((new->vm_state_bytes > 0) == (image->state.written.words != NULL));
    Qcow2Header to = image->header;
    guint64 old_off = image->header.snapshots_off;
    Qcow2Snapshot *s = new_snapshot(image, snapshots, new);
    g_ptr_array_add(snapshots, s);
    to.snapshots = snapshots->len;
    return place_snapshot(image, snapshots, s, &to.snapshots_off, error)
           && switch_header(image, &to, QCOW2_RULE_SNAPSHOT_BEFORE_ENTRY | QCOW2_RULE_TABLE_BEFORE_POINTER,
                            error)
           && qcow2_barrier(image, QCOW2_RULE_L2_BEFORE_LOWER, error)
           && lower_words(image, old_off, old_bytes, error) && qcow2_flush_locked(image, TRUE, error);
}

/* Rules, in this order: TABLE_BEFORE_POINTER, L2_BEFORE_LOWER, ONE_BEFORE_COPIED. */
static gboolean
delete_locked(Qcow2Image *image, guint index, GError **error)
{
    g_autoptr(GPtrArray) snapshots = NULL;
    guint64 old_bytes = 0;
    Qcow2Words gone = { 0 };

    if (!begin(image, &snapshots, &old_bytes, error))
        return FALSE;
    const Qcow2Snapshot *s = qcow2_snapshot_find(image, snapshots, index, error);
    if (!s || !qcow2_words_load(&gone, image->base.file, s->l1_off, s->l1_entries, error))
        return FALSE;
    g_ptr_array_remove_index(snapshots, index);

    Qcow2Header to = image->header;
    guint64 old_off = image->header.snapshots_off, new_bytes;
    to.snapshots = snapshots->len;
    gboolean done = place_table(image, snapshots, &to.snapshots_off, &new_bytes, error)
                    && switch_header(image, &to, QCOW2_RULE_TABLE_BEFORE_POINTER, error)
                    && qcow2_barrier(image, QCOW2_RULE_L2_BEFORE_LOWER, error)
                    && lower_all(image, &gone, error) && lower_words(image, gone.off, gone.n * 8, error)
                    && lower_words(image, old_off, old_bytes, error) && restore_copied(image, error);
    qcow2_words_clear(&gone);
    return done;
}

/* The clusters of @theirs may no longer be written in place, and are counted for the active disk too. */
static gboolean
share_theirs(Qcow2Image *image, Qcow2Words *theirs, guint64 entries, GError **error)
{
    if (!qcow2_copied_clear_locked(image, theirs, error) || !qcow2_flush_locked(image, FALSE, error)
        || !qcow2_words_write(theirs, image->base.file, error)
        || !qcow2_barrier(image, QCOW2_RULE_COPIED_BEFORE_RAISE, error))
        return FALSE;
    theirs->n = MIN(theirs->n, entries); /* VM state stays the snapshot's */
    return raise_all(image, theirs, error);
}

/* The active disk becomes a second user of the snapshot's clusters. Its new table comes first: nothing needs
 * space after that. */
static gboolean
switch_l1(Qcow2Image *image, const Qcow2Snapshot *s, Qcow2Words *new, GError **error)
{
    g_auto(Qcow2Words) theirs = { 0 };
    Qcow2Header to = image->header;
    guint64 entries = qcow2_l1_entries_for(&image->geo, s->guest_bytes);

    if (!qcow2_words_load(&theirs, image->base.file, s->l1_off, s->l1_entries, error))
        return FALSE;
    if (s->l1_entries < entries)
        return qcow2_corrupt_locked(image, error, "snapshot '%s' has too short an L1 table", s->name);
    if (!place_l1(image, &theirs, entries, new, error) || !qcow2_write_refcounts_locked(image, error)
        || !share_theirs(image, &theirs, entries, error)) {
        lower_words(image, new->off, new->n * 8, NULL);
        return FALSE;
    }
    to.l1_off = new->off;
    to.l1_entries = (guint32) new->n;
    to.guest_bytes = s->guest_bytes;
    return switch_header(image, &to, QCOW2_RULE_SNAPSHOT_BEFORE_ENTRY | QCOW2_RULE_TABLE_BEFORE_POINTER,
                         error);
}

/* They tell of writes, and cannot tell what differs from a snapshot. */
gboolean
qcow2_snapshot_may_revert_locked(Qcow2Image *image, GError **error)
{
    const char *label = image->base.file->label;

    if (!qcow2_bitmaps_load_locked(image, error))
        return FALSE;
    if (!image->bitmaps || image->bitmaps->list->len == 0)
        return TRUE;
    const Qcow2Bitmap *first = image->bitmaps->list->pdata[0];
    g_autofree char *name = error_one_line(first->name);
    return fail(
        error, KHO_ERROR_UNSUPPORTED,
        "%s cannot go back to a snapshot: its bitmap '%s' would not tell what changes then: remove it "
        "(kho img bitmap --remove %s NAME)",
        label, name, label);
}

/* Rules, in this order: COPIED_BEFORE_RAISE, SNAPSHOT_BEFORE_ENTRY, L2_BEFORE_LOWER, ONE_BEFORE_COPIED. */
static gboolean
revert_locked(Qcow2Image *image, guint index, GError **error)
{
    g_autoptr(GPtrArray) snapshots = NULL;
    Qcow2Words new = { 0 };

    if (!qcow2_snapshot_may_revert_locked(image, error) || !begin(image, &snapshots, NULL, error))
        return FALSE;
    const Qcow2Snapshot *s = qcow2_snapshot_find(image, snapshots, index, error);
    if (!s || !switch_l1(image, s, &new, error)) {
        qcow2_words_clear(&new);
        return FALSE;
    }
    Qcow2Words old = image->l1;
    image->l1 = new;
    image->base.guest_bytes = image->header.guest_bytes;
    qcow2_header_derive(&image->header, &image->geo);
    gboolean done = qcow2_barrier(image, QCOW2_RULE_L2_BEFORE_LOWER, error) && lower_all(image, &old, error)
                    && lower_words(image, old.off, old.n * 8, error) && restore_copied(image, error);
    qcow2_words_clear(&old);
    return done;
}

/* What version 3 wants to be in an entry's extra data: 16 bytes. */
static gboolean
complete(Qcow2Snapshot *s)
{
    gsize len;
    const guint8 *extra = g_bytes_get_data(s->extra, &len);
    guint8 *more;

    if (len >= 16)
        return FALSE;
    more = g_malloc0(16);
    memcpy(more, extra, len);
    be64_store(more, s->vm_state_bytes);
    be64_store(more + 8, s->guest_bytes);
    g_bytes_unref(s->extra);
    s->extra = g_bytes_new_take(more, 16);
    return TRUE;
}

gboolean
qcow2_snapshots_complete_locked(Qcow2Image *image, GError **error)
{
    g_autoptr(GPtrArray) snapshots = NULL;
    guint64 old_bytes = 0, new_bytes, old_off = image->header.snapshots_off;
    gboolean changed = FALSE;

    if (!begin(image, &snapshots, &old_bytes, error))
        return FALSE;
    for (guint i = 0; i < snapshots->len; i++)
        changed = complete(snapshots->pdata[i]) || changed;
    Qcow2Header to = image->header;
    return !changed
           || (place_table(image, snapshots, &to.snapshots_off, &new_bytes, error)
               && switch_header(image, &to, QCOW2_RULE_TABLE_BEFORE_POINTER, error)
               && qcow2_barrier(image, QCOW2_RULE_L2_BEFORE_LOWER, error)
               && lower_words(image, old_off, old_bytes, error) && qcow2_flush_locked(image, TRUE, error));
}

gboolean
qcow2_snapshot_create(FormatImage *format, const FormatSnapshotNew *snapshot, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);

    return create_locked(image, snapshot, error);
}

gboolean
qcow2_snapshot_delete(FormatImage *format, guint index, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);

    return delete_locked(image, index, error);
}

gboolean
qcow2_snapshot_revert(FormatImage *format, guint index, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);

    return revert_locked(image, index, error);
}
