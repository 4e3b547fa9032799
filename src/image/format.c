#include "image/format.h"

#include "base/error.h"
#include "base/num.h"
#include "block/hold.h"
#include "foreign/formats.h"
#include "luks/volume.h"
#include "qcow2/qcow2.h"
#include "raw/raw.h"

#include <string.h>

/* Probed in this order; the last one takes whatever the others did not know. */
static const FormatOps *const formats[] = { &qcow2_format, &luks_volume_format, &raw_format };

#define PROBE_BYTES 512

const FormatOps *
format_by_name(const char *name, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(formats); i++)
        if (g_str_equal(formats[i]->name, name))
            return formats[i];
    fail(error, KHO_ERROR_UNSUPPORTED,
         "unknown image format '%s': there are qcow2, raw and luks, and through QEMU %s", name,
         foreign_format_names());
    return NULL;
}

static gboolean
read_head(BlkStore *file, guint8 head[PROBE_BYTES], gsize *len, GError **error)
{
    guint64 bytes;

    if (!blk_size(file, &bytes, error))
        return FALSE;
    *len = (gsize) MIN(bytes, PROBE_BYTES);
    if (*len > 0 && !blk_pread(file, 0, head, *len, error))
        return FALSE;
    return !blk_hold_is_mark(head, *len)
           || fail(error, KHO_ERROR_CORRUPT,
                   "%s is incomplete: the copy into it did not end, and must be made again", file->label);
}

gboolean
format_probe(BlkStore *file, FormatFound *found, GError **error)
{
    guint8 head[PROBE_BYTES];
    gsize len;

    if (!read_head(file, head, &len, error))
        return FALSE;
    /* The first version of qcow bears qcow2's magic. */
    *found = (FormatFound){ .ops = &raw_format, .foreign = foreign_format_probe(head, len) };
    for (gsize i = 0; !found->foreign && i < G_N_ELEMENTS(formats); i++)
        if (formats[i]->probe && formats[i]->probe(head, len)) {
            found->ops = formats[i];
            break;
        }
    return TRUE;
}

gboolean
format_find(const char *name, FormatFound *found, GError **error)
{
    const char *foreign = foreign_format_find(name);

    *found = (FormatFound){ .ops = foreign ? &raw_format : format_by_name(name, error), .foreign = foreign };
    return found->ops != NULL;
}

FormatImage *
format_open(const FormatOps *ops, BlkStore *file, FormatFlags flags, GError **error)
{
    guint8 head[PROBE_BYTES];
    gsize len;

    g_assert(!(flags & FORMAT_WRITABLE) || file->writable);
    if (!read_head(file, head, &len, error))
        return NULL;
    if (ops != &raw_format && !ops->probe(head, len)) {
        fail(error, KHO_ERROR_INVALID, "%s is not a %s image%s", file->label, ops->name,
             len == 0 ? ": it is empty" : "");
        return NULL;
    }

    FormatImage *image = ops->open(file, flags, error);
    if (image
        && (image->ops != ops || image->file != file || (!image->data && !ops->set_data)
            || image->guest_bytes > NUM_OFFSET_MAX)) {
        image->ops->close(image, NULL);
        fail(error, KHO_ERROR_INTERNAL, "%s: the %s engine opened something else", file->label, ops->name);
        return NULL;
    }
    return image;
}

/* A format answered what its contract forbids. */
static gboolean
broken(FormatImage *image, const char *verb, guint64 at, GError **error)
{
    return fail(error, KHO_ERROR_INTERNAL, "%s: the %s engine broke its contract in %s at %" G_GUINT64_FORMAT,
                image->file->label, image->ops->name, verb, at);
}

static gboolean
range_fits(FormatImage *image, guint64 at, guint64 bytes)
{
    return bytes > 0 && at <= image->guest_bytes && bytes <= image->guest_bytes - at;
}

static gboolean
is_writable(FormatImage *image, GError **error)
{
    return (image->flags & FORMAT_WRITABLE)
           || fail(error, KHO_ERROR_DENIED, "%s is open for reading only", image->file->label);
}

gboolean
format_info(FormatImage *image, FormatInfo *info, GError **error)
{
    FormatInfo found = { 0 };

    if (!image->ops->info(image, &found, error)) {
        format_info_clear(&found);
        return FALSE;
    }
    *info = found;
    return TRUE;
}

static void
snapshot_free(gpointer data)
{
    FormatSnapshot *snapshot = data;

    g_free(snapshot->id_text);
    g_free(snapshot->name);
    g_free(snapshot);
}

static void
bitmap_free(gpointer data)
{
    FormatBitmap *bitmap = data;

    g_free(bitmap->name);
    g_free(bitmap);
}

void
format_info_clear(FormatInfo *info)
{
    g_free(info->backing_file);
    g_free(info->backing_format);
    g_free(info->data_file);
    g_free(info->refusal);
    g_free(info->luks);
    if (info->bitmaps) {
        g_ptr_array_set_free_func(info->bitmaps, bitmap_free);
        g_ptr_array_unref(info->bitmaps);
    }
    if (info->snapshots) {
        g_ptr_array_set_free_func(info->snapshots, snapshot_free);
        g_ptr_array_unref(info->snapshots);
    }
    memset(info, 0, sizeof *info);
}

void
format_set_data(FormatImage *image, BlkStore *data)
{
    g_assert(!image->data && (data->writable || !(image->flags & FORMAT_WRITABLE)));
    image->ops->set_data(image, data);
    g_assert(image->data);
}

gboolean
format_unlock(FormatImage *image, const void *passphrase, gsize len, GError **error)
{
    g_assert(image->encrypted);
    if (!image->ops->unlock)
        return broken(image, "open (an encrypted image)", 0, error);
    return image->ops->unlock(image, passphrase, len, error);
}

gboolean
format_map(FormatImage *image, GuestOff at, guint64 max_bytes, Run *run, GError **error)
{
    Run found = { 0 };

    g_assert(range_fits(image, at.bytes, max_bytes));
    if (!image->ops->map(image, at, max_bytes, &found, error))
        return FALSE;
    if (found.bytes == 0 || found.bytes > max_bytes)
        return broken(image, "map", at.bytes, error);
    *run = found;
    return TRUE;
}

gboolean
format_inflate(FormatImage *image, GuestOff at, void *buf, gsize len, GError **error)
{
    g_assert(range_fits(image, at.bytes, len));
    if (!image->ops->inflate)
        return broken(image, "map (a compressed run)", at.bytes, error);
    return image->ops->inflate(image, at, buf, len, error);
}

typedef gboolean (*PrepareFunc)(FormatImage *image, GuestOff at, guint64 max_bytes, Place *place,
                                GError **error);

static gboolean
prepare_by(PrepareFunc prepare, FormatImage *image, GuestOff at, guint64 max_bytes, Place *place,
           GError **error)
{
    Place found = { 0 };

    g_assert(range_fits(image, at.bytes, max_bytes));
    if (!is_writable(image, error) || !prepare(image, at, max_bytes, &found, error))
        return FALSE;
    if (found.at.bytes > at.bytes || found.bytes <= at.bytes - found.at.bytes) {
        image->ops->abandon(image, &found);
        return broken(image, "prepare", at.bytes, error);
    }
    *place = found;
    return TRUE;
}

gboolean
format_prepare(FormatImage *image, GuestOff at, guint64 max_bytes, Place *place, GError **error)
{
    return prepare_by(image->ops->prepare, image, at, max_bytes, place, error);
}

gboolean
format_prepare_new(FormatImage *image, GuestOff at, guint64 max_bytes, Place *place, GError **error)
{
    PrepareFunc prepare = image->ops->prepare_new ? image->ops->prepare_new : image->ops->prepare;

    return prepare_by(prepare, image, at, max_bytes, place, error);
}

gboolean
format_commit(FormatImage *image, const Place *place, GError **error)
{
    if (image->ops->commit(image, place, error))
        return TRUE;
    image->ops->abandon(image, place);
    return FALSE;
}

void
format_abandon(FormatImage *image, const Place *place)
{
    image->ops->abandon(image, place);
}

gboolean
format_zero(FormatImage *image, GuestOff at, guint64 len, guint64 *done, GError **error)
{
    guint64 covered = 0;

    g_assert(range_fits(image, at.bytes, len));
    if (!is_writable(image, error) || !image->ops->zero(image, at, len, &covered, error))
        return FALSE;
    if (covered > len)
        return broken(image, "zero", at.bytes, error);
    *done = covered;
    return TRUE;
}

gboolean
format_can_pack(const FormatOps *ops)
{
    return ops->packer_new != NULL;
}

FormatPacker *
format_packer_new(FormatImage *image, FormatLevel level)
{
    FormatPacker *packer = image->ops->packer_new(image, level);

    g_assert(packer->ops == image->ops);
    return packer;
}

void
format_packer_free(FormatPacker *packer)
{
    packer->ops->packer_free(packer);
}

gsize
format_pack(FormatPacker *packer, const guint8 *cluster, guint8 *packed)
{
    return packer->ops->pack(packer, cluster, packed);
}

gboolean
format_put_packed(FormatImage *image, GuestOff at, const guint8 *packed, gsize len, GError **error)
{
    g_assert((image->flags & FORMAT_UNPUBLISHED) && len > 0 && range_fits(image, at.bytes, 1));
    return is_writable(image, error) && image->ops->put_packed(image, at, packed, len, error);
}

gboolean
format_flush(FormatImage *image, GError **error)
{
    return !(image->flags & FORMAT_WRITABLE) || image->ops->flush(image, error);
}

gboolean
format_resize(FormatImage *image, guint64 guest_bytes, gboolean may_shrink, const KhoJob *job, GError **error)
{
    if (!is_writable(image, error))
        return FALSE;
    if (guest_bytes > NUM_OFFSET_MAX)
        return fail(error, KHO_ERROR_INVALID, "%s: a size of %" G_GUINT64_FORMAT " bytes is too large",
                    image->file->label, guest_bytes);
    if (guest_bytes < image->guest_bytes && !may_shrink)
        return fail(error, KHO_ERROR_INVALID,
                    "%s has %" G_GUINT64_FORMAT " bytes: to shrink it to %" G_GUINT64_FORMAT
                    " loses what lies past the end, which must be asked for",
                    image->file->label, image->guest_bytes, guest_bytes);
    if (!image->ops->resize(image, guest_bytes, may_shrink, job, error))
        return FALSE;
    return image->guest_bytes >= guest_bytes || broken(image, "resize", guest_bytes, error);
}

gboolean
format_extend(FormatImage *image, guint64 guest_bytes, GError **error)
{
    g_assert(guest_bytes > image->guest_bytes && guest_bytes <= NUM_OFFSET_MAX);
    if (!image->ops->extend)
        return format_resize(image, guest_bytes, FALSE, NULL, error);
    if (!is_writable(image, error) || !image->ops->extend(image, guest_bytes, error))
        return FALSE;
    return image->guest_bytes == guest_bytes || broken(image, "extend", guest_bytes, error);
}

gboolean
format_set_backing(FormatImage *image, const char *file, const char *file_format, gboolean only_check,
                   GError **error)
{
    g_assert((file != NULL) == (file_format != NULL));
    if (!is_writable(image, error))
        return FALSE;
    if (!image->ops->set_backing)
        return fail(error, KHO_ERROR_INVALID, "%s is a %s image, which cannot have a backing file",
                    image->file->label, image->ops->name);
    return image->ops->set_backing(image, file, file_format, only_check, error);
}

gboolean
format_empty(FormatImage *image, GError **error)
{
    if (!is_writable(image, error))
        return FALSE;
    if (!image->ops->empty)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s is a %s image, which cannot be emptied",
                    image->file->label, image->ops->name);
    return image->ops->empty(image, error);
}

static gboolean
can_snapshot(FormatImage *image, GError **error)
{
    if (!is_writable(image, error))
        return FALSE;
    return image->ops->snapshot_create
           || fail(error, KHO_ERROR_UNSUPPORTED, "%s is a %s image, which cannot hold snapshots",
                   image->file->label, image->ops->name);
}

gboolean
format_snapshot_create(FormatImage *image, const FormatSnapshotNew *snapshot, GError **error)
{
    return can_snapshot(image, error) && image->ops->snapshot_create(image, snapshot, error);
}

gboolean
format_snapshot_revert(FormatImage *image, guint index, GError **error)
{
    return can_snapshot(image, error) && image->ops->snapshot_revert(image, index, error);
}

gboolean
format_snapshot_delete(FormatImage *image, guint index, GError **error)
{
    return can_snapshot(image, error) && image->ops->snapshot_delete(image, index, error);
}

gboolean
format_amend(FormatImage *image, const FormatAmend *wish, gboolean only_check, GError **error)
{
    if (!is_writable(image, error))
        return FALSE;
    if (!image->ops->amend)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s is a %s image, which has nothing to amend",
                    image->file->label, image->ops->name);
    return image->ops->amend(image, wish, only_check, error);
}

gboolean
format_cost(FormatImage *image, const FormatChange *change, FormatCost *cost, GError **error)
{
    if (!is_writable(image, error))
        return FALSE;
    if (!image->ops->cost)
        return change->kind == FORMAT_RESIZE  ? TRUE
               : change->kind == FORMAT_AMEND ? format_amend(image, change->amend, TRUE, error)
                                              : can_snapshot(image, error);
    return image->ops->cost(image, change, cost, error);
}

gboolean
format_room(FormatImage *image, guint64 *bytes, GError **error)
{
    *bytes = 0;
    return !image->ops->room || image->ops->room(image, bytes, error);
}

gboolean
format_bitmap(FormatImage *image, const FormatBitmapChange *change, GError **error)
{
    if (!is_writable(image, error))
        return FALSE;
    if (!image->ops->bitmap)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s is a %s image, which cannot have bitmaps",
                    image->file->label, image->ops->name);
    if (change->source && change->source->ops != image->ops)
        return fail(error, KHO_ERROR_NOT_FOUND, "%s is a %s image: there is no bitmap '%s'",
                    change->source->file->label, change->source->ops->name, change->source_name);
    return image->ops->bitmap(image, change, error);
}

gboolean
format_check(FormatImage *image, FormatRepair repair, FormatCheck *result, GError **error)
{
    if (!image->ops->check)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s is a %s image, which has nothing to check",
                    image->file->label, image->ops->name);
    if (repair != FORMAT_REPAIR_NONE && !is_writable(image, error))
        return FALSE;
    return image->ops->check(image, repair, result, error);
}

gboolean
format_close(FormatImage *image, GError **error)
{
    return image->ops->close(image, error);
}
