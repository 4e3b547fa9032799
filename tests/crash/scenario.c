#include "crash/scenario.h"

#include "crash/guest.h"
#include "image/format.h"

#include <glib/gstdio.h>
#include <string.h>

static guint
event_now(const Scenario *s)
{
    return s->log ? s->log->len : 0;
}

/* A raw file of stamped sectors, compressed by qemu-img: kho does not write compressed clusters itself. */
static GBytes *
compressed_image(const ScenarioDisk *disk, Oracle *oracle)
{
    g_autofree char *folder = g_dir_make_tmp("kho-crash-XXXXXX", NULL);
    g_autofree char *raw = g_build_filename(folder, "raw", NULL),
                    *path = g_build_filename(folder, "qcow2", NULL);
    g_autofree char *options = g_strdup_printf("cluster_size=%u,refcount_bits=%u", disk->create.cluster_bytes,
                                               disk->create.refcount_bits ? disk->create.refcount_bits : 16);
    const char *argv[] = { "qemu-img", "convert", "-c",    "-f", "raw", "-O",
                           "qcow2",    "-o",      options, raw,  path,  NULL };
    g_autofree guint8 *bytes = g_malloc(disk->create.guest_bytes);
    g_autoptr(GError) error = NULL;
    char *image = NULL;
    gsize len = 0;
    gint status = 0;

    for (guint64 i = 0; i < oracle->first_sectors; i++) {
        oracle_preset(oracle, i, G_MAXUINT64 - i);
        guest_sector_fill(bytes + i * SECTOR, G_MAXUINT64 - i);
    }
    g_assert_true(g_file_set_contents_full(raw, (char *) bytes, (gssize) disk->create.guest_bytes,
                                           G_FILE_SET_CONTENTS_NONE, 0600, NULL));
    g_spawn_sync(NULL, (char **) argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, &status, &error);
    g_assert_no_error(error);
    g_assert_cmpint(status, ==, 0);
    g_assert_true(g_file_get_contents(path, &image, &len, NULL));
    g_unlink(raw);
    g_unlink(path);
    g_rmdir(folder);
    return g_bytes_new_take(image, len);
}

GBytes *
scenario_disk_new(const ScenarioDisk *disk, Oracle **oracle)
{
    guint64 capacity = MAX(disk->capacity_bytes, disk->create.guest_bytes);
    g_autoptr(GError) error = NULL;

    *oracle = oracle_new(disk->create.guest_bytes / SECTOR, capacity / SECTOR);
    (*oracle)->backing_bytes = disk->backing_bytes;
    for (guint64 i = 0; i < MIN(disk->backing_bytes, disk->create.guest_bytes) / SECTOR; i++)
        oracle_preset(*oracle, i, GUEST_BACKING_VALUE);
    if (disk->compressed)
        return compressed_image(disk, *oracle);
    g_autoptr(BlkStore) mem = blk_mem_new(NULL, 0, disk->name);
    qcow2_create(mem, &disk->create, &error);
    g_assert_no_error(error);
    return blk_mem_snapshot(mem);
}

void
scenario_unlock(FormatImage *image, const ScenarioDisk *disk)
{
    const LuksFormat *luks = disk->create.luks;

    if (luks)
        g_assert_true(image->ops->unlock(image, luks->passphrase.bytes, luks->passphrase.len, NULL));
}

gboolean
scenario_open(Scenario *s, BlkStore *store, GError **error)
{
    s->image = qcow2_format.open(store, FORMAT_WRITABLE, error);
    if (!s->image) {
        blk_free(store);
        return FALSE;
    }
    s->image->backing_bytes = s->oracle->backing_bytes;
    if (s->data)
        s->image->ops->set_data(s->image, g_steal_pointer(&s->data));
    scenario_unlock(s->image, s->disk);
    return TRUE;
}

void
scenario_clear(Scenario *s)
{
    if (s->image)
        s->image->ops->close(s->image, NULL);
    g_clear_pointer(&s->log, g_ptr_array_unref);
    g_clear_pointer(&s->oracle, oracle_free);
    g_clear_pointer(&s->rand, g_rand_free);
}

static gboolean
ended(Scenario *s, gboolean done)
{
    oracle_end(s->oracle, event_now(s), done);
    return done;
}

gboolean
scenario_write(Scenario *s, guint64 first, guint64 n, GError **error)
{
    g_autofree guint64 *values = g_new(guint64, n);
    g_autofree guint8 *bytes = g_malloc(n * SECTOR);

    s->stamp++;
    for (guint64 i = 0; i < n; i++) {
        values[i] = s->stamp << 24 | (first + i + 1);
        guest_sector_fill(bytes + i * SECTOR, values[i]);
    }
    oracle_begin(s->oracle, OP_WRITE, event_now(s), first, n, values);
    return ended(s, guest_write(s->image, first * SECTOR, bytes, n * SECTOR, error));
}

gboolean
scenario_zero(Scenario *s, guint64 first, guint64 n, GError **error)
{
    g_autofree guint64 *values = g_new0(guint64, n);

    oracle_begin(s->oracle, OP_ZERO, event_now(s), first, n, values);
    return ended(s, guest_zero(s->image, first * SECTOR, n * SECTOR, error));
}

gboolean
scenario_flush(Scenario *s, GError **error)
{
    oracle_begin(s->oracle, OP_FLUSH, event_now(s), 0, 0, NULL);
    return ended(s, s->image->ops->flush(s->image, error));
}

/* As image/ does it before a disk grows: its last subcluster becomes its own, so that nothing of the backing
 * file shows in the rest. */
static gboolean
own_last_cluster(Scenario *s, GError **error)
{
    guint64 unit = s->disk->create.cluster_bytes / (s->disk->create.extended_l2 ? 32 : 1);
    guint64 end = s->image->guest_bytes, inside = end % unit;
    g_autofree guint8 *last = g_malloc(inside + 1);

    return s->image->backing_bytes <= end || inside == 0
           || (guest_read(s->image, end - inside, last, inside, error)
               && guest_write(s->image, end - inside, last, inside, error));
}

gboolean
scenario_resize(Scenario *s, guint64 sectors, GError **error)
{
    guint64 from = MIN(sectors, s->oracle->now_sectors), to = MAX(sectors, s->oracle->now_sectors);
    g_autofree guint64 *zeros = g_new0(guint64, to - from + 1);

    oracle_begin(s->oracle, OP_RESIZE, event_now(s), from, to - from, zeros)->sectors = sectors;
    gboolean grows = sectors * SECTOR > s->image->guest_bytes;
    return ended(s, (!grows || own_last_cluster(s, error))
                        && s->image->ops->resize(s->image, sectors * SECTOR, TRUE, NULL, error));
}

/* Up to 64 KiB of the clusters behind the old end, which the file shows to nobody yet. */
static gboolean
fill_extended(Scenario *s, guint64 from, guint8 byte, GError **error)
{
    guint64 cluster = s->disk->create.cluster_bytes, at = (from + cluster - 1) / cluster * cluster;
    guint64 bytes = s->image->guest_bytes > at ? MIN(s->image->guest_bytes - at, 65536) : 0;
    g_autofree guint8 *filled = g_malloc(bytes + 1);

    memset(filled, byte, bytes);
    return bytes == 0
           || (guest_write(s->image, at, filled, bytes, error) && s->image->ops->flush(s->image, error));
}

gboolean
scenario_thick(Scenario *s, guint64 sectors, gboolean gives_up, GError **error)
{
    guint64 from = s->image->guest_bytes, more = gives_up ? 0 : sectors - s->oracle->now_sectors;
    g_autofree guint64 *zeros = g_new0(guint64, more + 1);

    OracleOp *op = oracle_begin(s->oracle, OP_RESIZE, event_now(s), s->oracle->now_sectors, more, zeros);
    op->sectors = gives_up ? s->oracle->now_sectors : sectors;
    op->durable = !gives_up; /* what was taken back promised nothing */
    gboolean done = own_last_cluster(s, error) && s->image->ops->extend(s->image, sectors * SECTOR, error)
                    && fill_extended(s, from, gives_up ? 0xee : 0, error);
    if (!done || gives_up)
        s->image->ops->resize(s->image, from, TRUE, NULL, NULL);
    else
        done = s->image->ops->resize(s->image, sectors * SECTOR, FALSE, NULL, error);
    return ended(s, done);
}

gboolean
scenario_empty(Scenario *s, GError **error)
{
    guint64 below = MIN(s->oracle->backing_bytes / SECTOR, s->oracle->now_sectors);
    g_autofree guint64 *values = g_new0(guint64, s->oracle->capacity);

    /* As going back to an empty snapshot of the same size would be: all of it, and durable. */
    for (guint64 i = 0; i < below; i++)
        values[i] = GUEST_BACKING_VALUE;
    oracle_begin(s->oracle, OP_REVERT, event_now(s), 0, s->oracle->capacity, values)->sectors =
        s->oracle->now_sectors;
    return ended(s, s->image->ops->empty(s->image, error));
}

gboolean
scenario_amend(Scenario *s, const FormatAmend *wish, GError **error)
{
    oracle_begin(s->oracle, OP_FLUSH, event_now(s), 0, 0, NULL);
    return ended(s, s->image->ops->amend(s->image, wish, FALSE, error));
}

gboolean
scenario_snapshot(Scenario *s, GError **error)
{
    Oracle *oracle = s->oracle;
    OracleSnapshot snapshot = { .name = g_strdup_printf("snap%u", ++s->n_snapshots),
                                .values = g_memdup2(oracle->now, oracle->capacity * sizeof *oracle->now),
                                .sectors = oracle->now_sectors,
                                .made_by = (gint) oracle->ops->len,
                                .deleted_by = -1 };

    g_array_append_val(oracle->snapshots, snapshot);
    oracle_begin(oracle, OP_SNAPSHOT, event_now(s), 0, 0, NULL)->snapshot = oracle->snapshots->len - 1;
    return ended(
        s, qcow2_snapshot_create(s->image, &(FormatSnapshotNew){ snapshot.name, 1700000000, 0, -1 }, error));
}

/* Where the snapshot of this name stands in the image's table. */
static guint
find_snapshot(FormatImage *image, const char *name)
{
    FormatInfo info = { 0 };
    guint found = G_MAXUINT;

    g_assert_true(image->ops->info(image, &info, NULL));
    for (guint i = 0; i < info.snapshots->len; i++)
        if (strcmp(((FormatSnapshot *) info.snapshots->pdata[i])->name, name) == 0)
            found = i;
    format_info_clear(&info);
    return found;
}

static OracleSnapshot *
snapshot_at(const Scenario *s, guint index)
{
    return &g_array_index(s->oracle->snapshots, OracleSnapshot, index);
}

gboolean
scenario_delete(Scenario *s, guint index, GError **error)
{
    OracleSnapshot *snapshot = snapshot_at(s, index);

    snapshot->deleted_by = (gint) s->oracle->ops->len;
    oracle_begin(s->oracle, OP_DELETE, event_now(s), 0, 0, NULL)->snapshot = index;
    return ended(s, qcow2_snapshot_delete(s->image, find_snapshot(s->image, snapshot->name), error));
}

gboolean
scenario_revert(Scenario *s, guint index, GError **error)
{
    const OracleSnapshot *snapshot = snapshot_at(s, index);

    oracle_begin(s->oracle, OP_REVERT, event_now(s), 0, s->oracle->capacity, snapshot->values)->sectors =
        snapshot->sectors;
    return ended(s, qcow2_snapshot_revert(s->image, find_snapshot(s->image, snapshot->name), error));
}

gboolean
scenario_close(Scenario *s, GError **error)
{
    FormatImage *image = g_steal_pointer(&s->image);

    oracle_begin(s->oracle, OP_FLUSH, event_now(s), 0, 0, NULL);
    return ended(s, image->ops->close(image, error));
}

guint
scenario_live_snapshots(const Scenario *s)
{
    guint n = 0;

    for (guint i = 0; i < s->oracle->snapshots->len; i++)
        n += snapshot_at(s, i)->deleted_by < 0;
    return n;
}

guint
scenario_any_snapshot(Scenario *s)
{
    guint wanted = (guint) g_rand_int_range(s->rand, 0, (gint) scenario_live_snapshots(s));

    for (guint i = 0;; i++)
        if (snapshot_at(s, i)->deleted_by < 0 && wanted-- == 0)
            return i;
}
