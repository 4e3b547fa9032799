#include "qcow2/cost.h"

#include "base/room.h"
#include "qcow2/amend.h"
#include "qcow2/bitmap_track.h"
#include "qcow2/check.h"
#include "qcow2/l1.h"
#include "qcow2/reach.h"
#include "qcow2/refcount.h"
#include "qcow2/resize.h"
#include "qcow2/snapshot_change.h"

#include <string.h>

/* A file system's block. */
#define BLOCK_BYTES 4096

/* A table entry without its texts, and with those numbers that version 3 wants. */
#define ENTRY_BYTES (QCOW2_SNAPSHOT_HEAD_BYTES + 24 + 16)

typedef struct {
    Qcow2Image *image;
    const FormatChange *change;
    FormatCost *cost;
    guint64 new_clusters;
    guint64 behind_bytes; /* at least, and behind the file's end: room before it does not serve */
} Look;

static gboolean
is_dirty(const Qcow2Image *image)
{
    return (image->header.incompat & QCOW2_INCOMPAT_DIRTY) != 0;
}

/* --- blocks --- */

/* As far as the file system tells: else all of it may be there, and none. */
static guint64
own_at_most(Qcow2Image *image, guint64 off, guint64 bytes)
{
    guint64 own = bytes;
    int fd = blk_fd(image->base.file);

    return fd >= 0 && room_own(fd, off, bytes, &own) ? own : bytes;
}

static guint64
own_at_least(Qcow2Image *image, guint64 off, guint64 bytes)
{
    guint64 own = bytes;
    int fd = blk_fd(image->base.file);

    return fd < 0 || room_own(fd, off, bytes, &own) ? own : 0;
}

/* What the file has behind its last cluster. */
static gboolean
room_behind(Qcow2Image *image, guint64 *bytes, GError **error)
{
    guint64 file_bytes, end;

    *bytes = 0;
    if (blk_fd(image->base.file) < 0)
        return TRUE;
    if (!blk_size(image->base.file, &file_bytes, error))
        return FALSE;
    end = num_align_up(file_bytes, image->geo.cluster_bytes);
    *bytes = own_at_least(image, end, ROOM_TO_END - end);
    return TRUE;
}

/* Clusters that nobody uses; where the counts are not to be believed, all of the file. */
static gboolean
room_within(Qcow2Image *image, guint64 *bytes, GError **error)
{
    guint bits = image->geo.cluster_bits;
    guint64 file_bytes, found = 0, count, n;

    if (!blk_size(image->base.file, &file_bytes, error) || !qcow2_load_reftable_locked(image, error))
        return FALSE;
    guint64 clusters = num_div_up(file_bytes, image->geo.cluster_bytes);
    for (guint64 c = 0; c < clusters; c += n) {
        if (!qcow2_refcount_run(image, c, clusters - c, &count, &n, error))
            return FALSE;
        if (count == 0 || is_dirty(image))
            found += own_at_most(image, c << bits, n << bits);
        qcow2_cache_trim(&image->cache);
    }
    *bytes = found;
    return TRUE;
}

gboolean
qcow2_room(FormatImage *format, guint64 *bytes, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);

    guint64 behind;

    if (!room_within(image, bytes, error) || !room_behind(image, &behind, error))
        return FALSE;
    *bytes += behind;
    return TRUE;
}

/* A table of @bytes in clusters of its own, of which the rest stays a hole. */
static void
add_table(Look *look, guint64 bytes)
{
    look->new_clusters += num_div_up(bytes, look->image->geo.cluster_bytes);
    look->cost->write_bytes += bytes;
    look->cost->most_bytes += num_align_up(bytes, BLOCK_BYTES);
    look->cost->least_bytes += bytes;
}

/* Blocks for the counts of new clusters, and a longer refcount table, where those that stand do not reach:
 * the file grows where there is no room before its end. */
static gboolean
add_counts(Look *look, GError **error)
{
    Qcow2Image *image = look->image;
    guint64 entries = image->geo.refblock_entries, cluster = image->geo.cluster_bytes, file_bytes;

    if (look->new_clusters == 0)
        return TRUE;
    if (!blk_size(image->base.file, &file_bytes, error))
        return FALSE;
    guint64 first = num_div_up(file_bytes, cluster) / entries;
    guint64 last = num_div_up(file_bytes, cluster) + look->new_clusters, blocks = 0;
    last = (last + num_div_up(last, entries)) / entries;
    for (guint64 i = first; i <= last; i++)
        blocks += i >= image->reftable.n || image->reftable.words[i] == 0;
    look->cost->most_bytes += blocks * cluster;
    look->cost->write_bytes += blocks * cluster;
    if (last >= image->reftable.n)
        look->cost->most_bytes += num_align_up((last + 1) * 12, cluster);
    return TRUE;
}

/* Written where it stands: that takes blocks where the file has none there, or shares them. */
static void
add_in_place(Look *look, guint64 off)
{
    guint64 cluster = look->image->geo.cluster_bytes;

    look->cost->read_bytes += cluster;
    look->cost->write_bytes += cluster;
    look->cost->most_bytes += cluster - own_at_least(look->image, off, cluster);
}

static void
add_l2_read(Look *look, const Qcow2Words *l1)
{
    for (guint64 i = 0; i < l1->n; i++)
        if (l1->words[i] != 0)
            look->cost->read_bytes += look->image->geo.cluster_bytes;
}

static void
add_l2_in_place(Look *look, const Qcow2Words *l1)
{
    const Qcow2Header *header = &look->image->header;
    guint64 off;
    gboolean copied;

    for (guint64 i = 0; i < l1->n; i++)
        if (!qcow2_l1_decode(l1->words[i], header, &off, &copied) && off != 0)
            add_in_place(look, off);
}

static void
add_refblocks_in_place(Look *look)
{
    const Qcow2Words *table = &look->image->reftable;
    guint64 off;

    for (guint64 i = 0; i < table->n; i++)
        if (!qcow2_reftable_decode(table->words[i], &look->image->header, &off) && off != 0)
            add_in_place(look, off);
}

/* --- what one state of the disk alone has --- */

#define OPEN_CLUSTERS 8

/* A cluster of compressed bytes has a reference from each piece in it. They lie one behind the other most
 * often: so few clusters are open at a time. */
typedef struct {
    guint64 clusters; /* that nothing else refers to */
    struct {
        guint64 cluster, references;
    } open[OPEN_CLUSTERS];
    guint next;
    gboolean has_packed;
} Alone;

static void
count_packed(Alone *alone, guint64 cluster, guint64 count)
{
    guint i = 0;

    while (i < OPEN_CLUSTERS && alone->open[i].cluster != cluster)
        i++;
    if (i == OPEN_CLUSTERS) {
        i = alone->next++ % OPEN_CLUSTERS;
        alone->open[i].cluster = cluster;
        alone->open[i].references = 0;
    }
    alone->clusters += ++alone->open[i].references == count;
    alone->has_packed = alone->has_packed || alone->open[i].references > 1;
}

/* A Qcow2ReachFunc. */
static gboolean
count_alone(Qcow2Image *image, guint64 first, guint64 n, gpointer data, GError **error)
{
    Alone *alone = data;
    guint64 end = first + n, count, run;

    for (; first < end; first += run) {
        if (!qcow2_refcount_run(image, first, end - first, &count, &run, error))
            return FALSE;
        if (count == 1)
            alone->clusters += run;
        else if (n <= 2)
            for (guint64 c = first; c < first + run; c++)
                count_packed(alone, c, count);
    }
    return TRUE;
}

static gboolean
count_tables_alone(Qcow2Image *image, const Qcow2Words *l1, guint64 *clusters, GError **error)
{
    guint64 off, count;
    gboolean copied;

    for (guint64 i = 0; i < l1->n; i++) {
        if (qcow2_l1_decode(l1->words[i], &image->header, &off, &copied) || off == 0)
            continue;
        if (!qcow2_refcount_get(image, off >> image->geo.cluster_bits, &count, error))
            return FALSE;
        *clusters += count == 1;
    }
    return TRUE;
}

/* What is let go with the L1 table @l1. Of a dirty image nobody knows before its counts are made anew. */
static gboolean
add_freed(Look *look, const Qcow2Words *l1, GError **error)
{
    Qcow2Image *image = look->image;
    Alone alone = { 0 };
    guint64 tables = 0;
    Qcow2Reach reach = { .func = count_alone, .data = &alone, .left = G_MAXUINT64 };

    add_l2_read(look, l1);
    look->cost->own_is_least = is_dirty(image);
    if (is_dirty(image))
        return TRUE;
    if (!qcow2_reach_each_locked(image, l1, &reach, error) || !count_tables_alone(image, l1, &tables, error))
        return FALSE;
    look->cost->freed_bytes += (alone.clusters << image->geo.cluster_bits) + l1->n * 8;
    look->cost->own_bytes = (alone.clusters - tables) << image->geo.cluster_bits;
    look->cost->own_is_least = alone.has_packed;
    return TRUE;
}

/* --- another refcount structure --- */

/* New blocks that count something: most of them, or a part of what was let go without its count. */
static gboolean
count_blocks(Qcow2Image *image, guint64 entries, guint64 clusters, guint64 *blocks, GError **error)
{
    guint64 counted_to = 0, count, n;

    *blocks = 0;
    for (guint64 c = 0; c < clusters; c += n) {
        if (!qcow2_refcount_run(image, c, clusters - c, &count, &n, error))
            return FALSE;
        guint64 from = MAX(c / entries, counted_to), to = (c + n - 1) / entries + 1;
        if (count > 0 && to > from) {
            *blocks += to - from;
            counted_to = to;
        }
        qcow2_cache_trim(&image->cache);
    }
    return TRUE;
}

static gboolean
count_leaks(Qcow2Image *image, guint64 *leaks, GError **error)
{
    FormatCheck found = { 0 };
    g_auto(Qcow2Check)
        check = { .file = image->base.file, .room_bytes = image->check_room_bytes, .result = &found };

    if (!qcow2_check_begin(&check, error) || !qcow2_check_run(&check, error))
        return FALSE;
    *leaks = found.leaks;
    return TRUE;
}

static guint64
old_blocks(const Qcow2Image *image)
{
    guint64 n = 0;

    for (guint64 i = 0; i < image->reftable.n; i++)
        n += image->reftable.words[i] != 0;
    return n;
}

/* It lies behind all that there is, and the old one goes afterwards. */
static gboolean
add_recount(Look *look, const Qcow2Header *to, GError **error)
{
    Qcow2Image *image = look->image;
    guint64 cluster = image->geo.cluster_bytes, file_bytes, blocks, leaks = 0, table = 0;
    Qcow2Geometry geo;

    qcow2_header_derive(to, &geo);
    if (!blk_size(image->base.file, &file_bytes, error))
        return FALSE;
    guint64 clusters = num_div_up(file_bytes, cluster), entries = geo.refblock_entries;
    if (is_dirty(image))
        blocks = num_div_up(clusters, entries);
    else if (!count_blocks(image, entries, clusters, &blocks, error))
        return FALSE;
    /* They count themselves, behind the file's end. */
    guint64 all = blocks;
    for (guint64 before = 0; before != all + table;) {
        before = all + table;
        table = num_div_up((clusters + before) / entries * 8 + 8, cluster);
        all = blocks + num_div_up(before, entries) + 1;
    }
    look->cost->read_bytes += (image->header.reftable_clusters + old_blocks(image)) * cluster;
    look->cost->write_bytes += (all + table) * cluster;
    look->cost->most_bytes += (all + table) * cluster;
    look->cost->freed_bytes += (image->header.reftable_clusters + old_blocks(image)) * cluster;
    if (is_dirty(image))
        return TRUE;
    if ((blocks + table) * cluster > look->change->free_bytes && !count_leaks(image, &leaks, error))
        return FALSE;
    look->behind_bytes += (blocks - MIN(leaks, blocks) + 1) * cluster;
    return TRUE;
}

/* --- each change --- */

static guint64
encoded_bytes(const Qcow2Snapshot *snapshot)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    qcow2_snapshot_encode(snapshot, bytes);
    return bytes->len;
}

static gboolean
look_at_create(Look *look, GPtrArray *snapshots, guint64 table_bytes, GError **error)
{
    Qcow2Image *image = look->image;
    guint64 entry = num_align_up(ENTRY_BYTES + strlen(look->change->snapshot->name), 8);

    if (!qcow2_snapshot_may_create(image, snapshots, error))
        return FALSE;
    add_table(look, image->l1.n * 8);
    add_table(look, table_bytes + entry);
    if (look->change->in_full)
        add_l2_in_place(look, &image->l1);
    return TRUE;
}

static gboolean
look_at_revert(Look *look, GPtrArray *snapshots, GError **error)
{
    Qcow2Image *image = look->image;
    const Qcow2Snapshot *s = qcow2_snapshot_find(image, snapshots, look->change->index, error);
    g_auto(Qcow2Words) theirs = { 0 };

    if (!s || !qcow2_snapshot_may_revert_locked(image, error))
        return FALSE;
    add_table(look, qcow2_l1_entries_for(&image->geo, s->guest_bytes) * 8);
    if (!look->change->in_full)
        return TRUE;
    if (!qcow2_words_load(&theirs, image->base.file, s->l1_off, s->l1_entries, error)
        || !add_freed(look, &image->l1, error))
        return FALSE;
    add_l2_in_place(look, &theirs);
    return TRUE;
}

static gboolean
look_at_delete(Look *look, GPtrArray *snapshots, guint64 table_bytes, GError **error)
{
    Qcow2Image *image = look->image;
    const Qcow2Snapshot *s = qcow2_snapshot_find(image, snapshots, look->change->index, error);
    g_auto(Qcow2Words) gone = { 0 };

    if (!s)
        return FALSE;
    guint64 entry = MIN(encoded_bytes(s), table_bytes);
    if (table_bytes > entry)
        add_table(look, table_bytes - entry);
    if (!look->change->in_full)
        return TRUE;
    if (!qcow2_words_load(&gone, image->base.file, s->l1_off, s->l1_entries, error)
        || !add_freed(look, &gone, error))
        return FALSE;
    add_l2_in_place(look, &image->l1);
    return TRUE;
}

static gboolean
look_at_snapshots(Look *look, GError **error)
{
    Qcow2Image *image = look->image;
    guint64 table_bytes = 0;

    if (!qcow2_snapshots_possible(image, error) || !qcow2_look_before_write_locked(image, error))
        return FALSE;
    g_autoptr(GPtrArray) snapshots =
        qcow2_snapshots_read(image->base.file, &image->header, &table_bytes, error);
    if (!snapshots || (is_dirty(image) && !add_recount(look, &image->header, error)))
        return FALSE;
    gboolean looked =
        look->change->kind == FORMAT_SNAPSHOT_CREATE   ? look_at_create(look, snapshots, table_bytes, error)
        : look->change->kind == FORMAT_SNAPSHOT_REVERT ? look_at_revert(look, snapshots, error)
                                                       : look_at_delete(look, snapshots, table_bytes, error);
    if (!looked)
        return FALSE;
    if (look->change->in_full)
        add_refblocks_in_place(look);
    return add_counts(look, error);
}

/* Where another L1 table is made, the L2 table at the border is copied; and the cluster there, where others
 * use it too. Zeros hide what a longer backing file has. */
static void
add_size(Look *look, guint64 to)
{
    Qcow2Image *image = look->image;
    guint64 cluster = image->geo.cluster_bytes, hidden_to = MIN(to, image->base.backing_bytes);
    guint64 hidden_from = num_align_up(image->base.guest_bytes, cluster);
    guint64 entries = qcow2_l1_entries_for(&image->geo, to), tables = 2, least = look->cost->least_bytes;

    if (to == image->base.guest_bytes)
        return;
    add_table(look, entries * 8);
    if (entries <= image->l1.n)
        look->cost->least_bytes = least; /* that one may do */
    if (hidden_from < hidden_to)
        tables += num_div_up(hidden_to - hidden_from, image->geo.l2_span_bytes) + 1;
    look->new_clusters += tables;
    look->cost->most_bytes += tables * cluster;
    if (hidden_from < hidden_to && image->header.version < 3)
        look->new_clusters += num_div_up(hidden_to - hidden_from, cluster); /* they stay holes of the file */
}

static gboolean
look_at_resize(Look *look, GError **error)
{
    Qcow2Image *image = look->image;

    if (!qcow2_look_before_write_locked(image, error)
        || !qcow2_resize_check_locked(image, look->change->guest_bytes, error)
        || (is_dirty(image) && !add_recount(look, &image->header, error)))
        return FALSE;
    add_size(look, look->change->guest_bytes);
    return add_counts(look, error);
}

/* Version 2 has no zero flags: what is marked so becomes holes, or clusters that stay holes of the file. */
static gboolean
look_at_version_2(Look *look, GError **error)
{
    Qcow2Image *image = look->image;

    if (!look->change->in_full)
        return TRUE;
    if (!qcow2_amend_count_zeros_locked(image, &look->cost->zero_clusters, error))
        return FALSE;
    if (look->cost->zero_clusters == 0)
        return TRUE;
    if (image->extensions.backing_file)
        look->new_clusters += look->cost->zero_clusters;
    add_l2_in_place(look, &image->l1);
    add_refblocks_in_place(look);
    return TRUE;
}

/* Whoever counts or changes everything reads it. */
static gboolean
add_all_read(Look *look, GPtrArray *snapshots, GError **error)
{
    Qcow2Image *image = look->image;

    add_l2_read(look, &image->l1);
    for (guint i = 0; i < snapshots->len; i++) {
        const Qcow2Snapshot *s = snapshots->pdata[i];
        g_auto(Qcow2Words) l1 = { 0 };

        if (!qcow2_words_load(&l1, image->base.file, s->l1_off, s->l1_entries, error))
            return FALSE;
        add_l2_read(look, &l1);
    }
    return TRUE;
}

static gboolean
add_layout(Look *look, const Qcow2Header *to, GPtrArray *snapshots, guint64 table_bytes, GError **error)
{
    Qcow2Image *image = look->image;
    gboolean recounts = to->refcount_order != image->header.refcount_order;

    if (to->version > image->header.version && snapshots->len > 0) {
        add_table(look, table_bytes + snapshots->len * 16ull);
        look->cost->least_bytes = 0; /* they may say all that is wanted */
    }
    if ((to->version < image->header.version && !look_at_version_2(look, error))
        || (is_dirty(image) && !add_recount(look, &image->header, error))
        || (recounts && !add_recount(look, to, error)))
        return FALSE;
    return (to->version == image->header.version && !recounts) || !look->change->in_full
           || add_all_read(look, snapshots, error);
}

static gboolean
look_at_amend(Look *look, GError **error)
{
    Qcow2Image *image = look->image;
    guint64 table_bytes = 0, size = look->change->amend->guest_bytes;
    Qcow2Header to;

    if (!qcow2_look_before_write_locked(image, error)
        || !qcow2_amend_plan_locked(image, look->change->amend, &to, error)
        || (size > 0
            && (!qcow2_l1_reaches(image, size, error)
                || !qcow2_bitmaps_check_resize_locked(image, size, error))))
        return FALSE;
    g_autoptr(GPtrArray) snapshots =
        qcow2_snapshots_read(image->base.file, &image->header, &table_bytes, error);
    if (!snapshots || !add_layout(look, &to, snapshots, table_bytes, error))
        return FALSE;
    if (size > 0)
        add_size(look, size);
    return add_counts(look, error);
}

gboolean
qcow2_cost(FormatImage *format, const FormatChange *change, FormatCost *cost, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
    FormatCost found = { 0 };
    Look look = { .image = image, .change = change, .cost = &found };
    guint64 within, behind;

    if (change->kind == FORMAT_AMEND    ? !look_at_amend(&look, error)
        : change->kind == FORMAT_RESIZE ? !look_at_resize(&look, error)
                                        : !look_at_snapshots(&look, error))
        return FALSE;
    if (found.least_bytes + look.behind_bytes > change->free_bytes) {
        if (!room_within(image, &within, error) || !room_behind(image, &behind, error))
            return FALSE;
        found.least_bytes -= MIN(within, found.least_bytes);
        look.behind_bytes -= MIN(behind, look.behind_bytes);
    }
    found.least_bytes += look.behind_bytes;
    *cost = found;
    return TRUE;
}
