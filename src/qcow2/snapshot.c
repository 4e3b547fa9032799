#include "qcow2/snapshot.h"

#include "base/error.h"
#include "qcow2/crypt.h"
#include "qcow2/image.h"
#include "qcow2/qcow2.h"

#include <string.h>

void
qcow2_snapshot_free(Qcow2Snapshot *snapshot)
{
    g_free(snapshot->id);
    g_free(snapshot->name);
    g_clear_pointer(&snapshot->extra, g_bytes_unref);
    g_free(snapshot);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qcow2Snapshot, qcow2_snapshot_free)

static gboolean
bad_entry(GError **error, BlkStore *file, guint index, const char *what, guint64 value)
{
    return fail(error, KHO_ERROR_CORRUPT, "%s is corrupt: snapshot table entry %u: %s is %" G_GUINT64_FORMAT,
                file->label, index, what, value);
}

static gboolean
check_l1(BlkStore *file, const Qcow2Header *header, const Qcow2Snapshot *s, guint index, GError **error)
{
    guint64 file_bytes, cluster = G_GUINT64_CONSTANT(1) << header->cluster_bits;

    if (!blk_size(file, &file_bytes, error))
        return FALSE;
    if (s->l1_entries > QCOW2_L1_BYTES_MAX / 8)
        return bad_entry(error, file, index, "its number of L1 entries", s->l1_entries);
    if (s->l1_entries > 0
        && (s->l1_off < cluster || s->l1_off % cluster != 0 || s->l1_off > file_bytes
            || s->l1_entries > (file_bytes - s->l1_off) / 8))
        return bad_entry(error, file, index, "its L1 offset", s->l1_off);
    if (s->guest_bytes > NUM_OFFSET_MAX)
        return bad_entry(error, file, index, "its disk size", s->guest_bytes);
    return TRUE;
}

/* The part of known length. Spec: docs/spec/qcow2.md, section 9. */
static void
decode_head(const guint8 *b, Qcow2Snapshot *s, guint *id_bytes, guint *name_bytes, guint32 *extra_bytes)
{
    s->l1_off = be64_load(b);
    s->l1_entries = be32_load(b + 8);
    *id_bytes = be16_load(b + 12);
    *name_bytes = be16_load(b + 14);
    s->date_s = be32_load(b + 16);
    s->date_ns = be32_load(b + 20);
    s->vm_clock_ns = be64_load(b + 24);
    s->vm_state_bytes = be32_load(b + 32);
    *extra_bytes = be32_load(b + 36);
}

static void
decode_extra(const guint8 *b, gsize len, Qcow2Snapshot *s)
{
    if (len >= 8)
        s->vm_state_bytes = be64_load(b);
    if (len >= 16)
        s->guest_bytes = be64_load(b + 8);
    if (len >= 24)
        s->icount = (gint64) be64_load(b + 16);
}

static gboolean
read_one(BlkStore *file, const Qcow2Header *header, guint index, guint64 *at, GPtrArray *snapshots,
         GError **error)
{
    g_autoptr(Qcow2Snapshot) s = g_new0(Qcow2Snapshot, 1);
    guint8 head[QCOW2_SNAPSHOT_HEAD_BYTES];
    guint id_bytes, name_bytes;
    guint32 extra_bytes;

    if (!blk_pread(file, *at, head, sizeof head, error))
        return FALSE;
    decode_head(head, s, &id_bytes, &name_bytes, &extra_bytes);
    s->guest_bytes = header->guest_bytes;
    s->icount = -1;
    if (extra_bytes > QCOW2_SNAPSHOT_EXTRA_BYTES_MAX)
        return bad_entry(error, file, index, "the length of its extra data", extra_bytes);
    /* At most 1024 + 2 * 65535 bytes. */
    gsize len = (gsize) extra_bytes + id_bytes + name_bytes;
    g_autofree guint8 *rest = g_malloc(len + 1);
    if (len > 0 && !blk_pread(file, *at + sizeof head, rest, len, error))
        return FALSE;
    decode_extra(rest, extra_bytes, s);
    s->extra = g_bytes_new(rest, extra_bytes);
    s->id = g_strndup((const char *) rest + extra_bytes, id_bytes);
    s->name = g_strndup((const char *) rest + extra_bytes + id_bytes, name_bytes);
    if (!check_l1(file, header, s, index, error))
        return FALSE;
    *at = num_align_up(*at + sizeof head + len, 8);
    if (*at - header->snapshots_off > QCOW2_SNAPSHOT_TABLE_BYTES_MAX)
        return bad_entry(error, file, index, "the length of the table up to it", *at - header->snapshots_off);
    g_ptr_array_add(snapshots, g_steal_pointer(&s));
    return TRUE;
}

GPtrArray *
qcow2_snapshots_read(BlkStore *file, const Qcow2Header *header, guint64 *table_bytes, GError **error)
{
    g_autoptr(GPtrArray) snapshots = g_ptr_array_new_with_free_func((GDestroyNotify) qcow2_snapshot_free);
    guint64 at = header->snapshots_off;

    for (guint i = 0; i < header->snapshots; i++)
        if (!read_one(file, header, i, &at, snapshots, error))
            return NULL;
    if (table_bytes)
        *table_bytes = at - header->snapshots_off;
    return g_steal_pointer(&snapshots);
}

void
qcow2_snapshot_encode(const Qcow2Snapshot *s, GByteArray *to)
{
    static const guint8 zeros[8];
    guint8 head[QCOW2_SNAPSHOT_HEAD_BYTES];
    gsize extra_len, id_len = strlen(s->id), name_len = strlen(s->name);
    const guint8 *extra = g_bytes_get_data(s->extra, &extra_len);

    be64_store(head, s->l1_off);
    be32_store(head + 8, s->l1_entries);
    be16_store(head + 12, (guint16) id_len);
    be16_store(head + 14, (guint16) name_len);
    be32_store(head + 16, s->date_s);
    be32_store(head + 20, s->date_ns);
    be64_store(head + 24, s->vm_clock_ns);
    be32_store(head + 32, s->vm_state_bytes > G_MAXUINT32 ? 0 : (guint32) s->vm_state_bytes);
    be32_store(head + 36, (guint32) extra_len);
    g_byte_array_append(to, head, sizeof head);
    if (extra_len > 0)
        g_byte_array_append(to, extra, (guint) extra_len);
    g_byte_array_append(to, (const guint8 *) s->id, (guint) id_len);
    g_byte_array_append(to, (const guint8 *) s->name, (guint) name_len);
    g_byte_array_append(to, zeros, (guint) (num_align_up(to->len, 8) - to->len));
}

gboolean
qcow2_snapshots_possible(const Qcow2Image *image, GError **error)
{
    return !qcow2_has_data_file(&image->header)
           || fail(error, KHO_ERROR_UNSUPPORTED,
                   "%s keeps its data in another file, of which there are no internal snapshots",
                   image->base.file->label);
}

/* VM state lies behind the disk, from the next L1 entry on. */
static gboolean
reach_state(Qcow2Image *image, guint index, const Qcow2Snapshot *s, Qcow2Header *header, guint64 *off,
            GError **error)
{
    guint64 end, bytes = num_align_up(MIN(s->vm_state_bytes, NUM_OFFSET_MAX), QCOW2_SECTOR_BYTES);

    *off = qcow2_l1_entries_for(&image->geo, s->guest_bytes) * image->geo.l2_span_bytes;
    if (!num_add(*off, bytes, &end) || end > NUM_OFFSET_MAX)
        return bad_entry(error, image->base.file, index, "the size of its VM state", s->vm_state_bytes);
    header->guest_bytes = end;
    return TRUE;
}

/* @state_off: NULL: the disk only. */
static FormatImage *
open_view(FormatImage *format, guint index, guint64 *state_off, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GPtrArray) snapshots = NULL;
    Qcow2Geometry geo;

    if (!qcow2_snapshots_possible(image, error))
        return NULL;
    /* What the view reads is what is on disk. */
    if (!format->ops->flush(format, error))
        return NULL;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
    snapshots = qcow2_snapshots_read(format->file, &image->header, NULL, error);
    if (!snapshots)
        return NULL;
    if (index >= snapshots->len) {
        fail(error, KHO_ERROR_NOT_FOUND, "%s has no snapshot number %u", format->file->label, index);
        return NULL;
    }
    const Qcow2Snapshot *s = snapshots->pdata[index];
    Qcow2Header header = image->header;
    header.guest_bytes = s->guest_bytes;
    header.l1_off = s->l1_off;
    header.l1_entries = s->l1_entries;
    header.snapshots = 0;
    if (state_off && !reach_state(image, index, s, &header, state_off, error))
        return NULL;
    qcow2_header_derive(&header, &geo);
    if (s->l1_entries < geo.l1_guest_entries) {
        bad_entry(error, format->file, index, "its number of L1 entries", s->l1_entries);
        return NULL;
    }
    Qcow2Image *view =
        qcow2_image_new(format->file, &header, g_memdup2(image->head, geo.cluster_bytes), 0, error);
    if (view) {
        view->base.ops = &qcow2_format;
        view->borrowed = TRUE;
        qcow2_crypt_borrow(view, image);
    }
    return (FormatImage *) view;
}

FormatImage *
qcow2_snapshot_open_view(FormatImage *image, guint index, GError **error)
{
    return open_view(image, index, NULL, error);
}

FormatImage *
qcow2_snapshot_open_state(FormatImage *image, guint index, guint64 *state_off, GError **error)
{
    return open_view(image, index, state_off, error);
}
