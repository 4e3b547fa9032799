#include "qcow2/bitmap_change.h"

#include "base/error.h"
#include "qcow2/backing.h"
#include "qcow2/bitmap_merge.h"
#include "qcow2/bitmap_track.h"
#include "qcow2/flush.h"
#include "qcow2/refcount.h"

#include <string.h>

/* --- which one --- */

static gboolean
refuse(Qcow2Image *image, GError **error, gint code, const char *name, const char *what)
{
    g_autofree char *shown = error_one_line(name);

    return fail(error, code, "%s: bitmap '%s' %s", image->base.file->label, shown, what);
}

static gboolean
find(Qcow2Image *image, const char *name, Qcow2Bitmap **bitmap, GError **error)
{
    *bitmap = image->bitmaps ? qcow2_bitmaps_find(image->bitmaps->list, name) : NULL;
    return *bitmap || refuse(image, error, KHO_ERROR_NOT_FOUND, name, "does not exist");
}

static gboolean
find_sound(Qcow2Image *image, const char *name, Qcow2Bitmap **bitmap, GError **error)
{
    if (!find(image, name, bitmap, error))
        return FALSE;
    if ((*bitmap)->unusable)
        return refuse(image, error, KHO_ERROR_UNSUPPORTED, name, (*bitmap)->unusable);
    return qcow2_bitmap_is_sound(*bitmap)
           || refuse(image, error, KHO_ERROR_CORRUPT, name,
                     "is inconsistent, since it was in use when a program ended: it can only be removed");
}

/* --- the directory --- */

/* Writes @list as a new directory. Those that stand are copied as they are, whatever kho knows of them; a new
 * one (entry_bytes 0) is encoded. */
static gboolean
place_directory(Qcow2Image *image, const GPtrArray *list, Qcow2BitmapsPlace *place, GError **error)
{
    const Qcow2Extensions *e = &image->extensions;
    gsize old_bytes = qcow2_has_bitmaps(image) ? e->bitmap_directory_bytes : 0;
    g_autofree guint8 *old = g_malloc(old_bytes + 1);
    g_autoptr(GByteArray) directory = g_byte_array_new();
    guint64 first, got, clusters;

    if (old_bytes > 0 && !blk_pread(image->base.file, e->bitmap_directory_off, old, old_bytes, error))
        return FALSE;
    for (guint i = 0; i < list->len; i++) {
        Qcow2Bitmap *b = list->pdata[i];
        if (b->entry_bytes == 0)
            qcow2_bitmap_encode(b, directory);
        else
            g_byte_array_append(directory, old + b->entry_off, b->entry_bytes);
    }
    if (directory->len > QCOW2_BITMAP_DIRECTORY_LOADED_MAX || list->len > QCOW2_BITMAPS_MAX)
        return fail(error, KHO_ERROR_NO_SPACE, "%s has as many bitmaps as there may be",
                    image->base.file->label);
    clusters = num_div_up(directory->len, image->geo.cluster_bytes);
    if (!qcow2_alloc(image, clusters, TRUE, &first, &got, error))
        return FALSE;
    *place = (Qcow2BitmapsPlace){ list->len, first << image->geo.cluster_bits, directory->len };
    if (!blk_pwrite(image->base.file, place->off, directory->data, directory->len, error)) {
        qcow2_refcount_lower(image, first, clusters, NULL);
        return FALSE;
    }
    qcow2_guard_mark(&image->guard, first, clusters);
    return TRUE;
}

static gboolean
release_directory(Qcow2Image *image, guint64 off, guint64 bytes, GError **error)
{
    guint64 first = off >> image->geo.cluster_bits, n = num_div_up(bytes, image->geo.cluster_bytes);

    if (n == 0)
        return TRUE;
    qcow2_guard_unmark(&image->guard, first, n);
    return qcow2_refcount_lower(image, first, n, error);
}

/* The header names a directory of @list, and the old one goes. */
static gboolean
switch_directory(Qcow2Image *image, GPtrArray *list, GError **error)
{
    const guint built = QCOW2_RULE_REFCOUNT_BEFORE_REFERENCE | QCOW2_RULE_TABLE_BEFORE_POINTER;
    guint64 old_off = image->extensions.bitmap_directory_off, at = 0;
    guint64 old_bytes = qcow2_has_bitmaps(image) ? image->extensions.bitmap_directory_bytes : 0;
    Qcow2BitmapsPlace place = { 0 };

    if (list->len > 0 && !place_directory(image, list, &place, error))
        return FALSE;
    if (!qcow2_write_refcounts_locked(image, error) || !qcow2_barrier(image, built, error)
        || !qcow2_header_set_bitmaps_locked(image, list->len > 0 ? &place : NULL, error)) {
        if (!image->broken)
            release_directory(image, place.off, place.bytes, NULL);
        return FALSE;
    }
    for (guint i = 0; i < list->len; i++) {
        Qcow2Bitmap *b = list->pdata[i];
        b->entry_off = at;
        at += b->entry_bytes;
    }
    return qcow2_barrier(image, QCOW2_RULE_L2_BEFORE_LOWER, error)
           && release_directory(image, old_off, old_bytes, error);
}

/* --- adding and removing --- */

static guint64
default_granularity(const Qcow2Image *image)
{
    return CLAMP(image->geo.cluster_bytes, 4 * KIB, 64 * KIB);
}

static gboolean
check_new(Qcow2Image *image, const FormatBitmapChange *change, guint64 granularity, GError **error)
{
    gsize name_bytes = strlen(change->name);

    if (image->header.version < 3)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "%s is of version 2, which has no bitmaps: see kho img amend", image->base.file->label);
    if (image->bitmaps && qcow2_bitmaps_find(image->bitmaps->list, change->name))
        return refuse(image, error, KHO_ERROR_EXISTS, change->name, "exists already");
    if (name_bytes == 0 || name_bytes > QCOW2_BITMAP_NAME_BYTES_MAX)
        return fail(error, KHO_ERROR_INVALID,
                    "%s: the name of a bitmap has 1 to %u bytes, not %" G_GSIZE_FORMAT,
                    image->base.file->label, QCOW2_BITMAP_NAME_BYTES_MAX, name_bytes);
    if (!num_is_pow2(granularity) || granularity < G_GUINT64_CONSTANT(1) << QCOW2_BITMAP_GRANULARITY_MIN
        || granularity > G_GUINT64_CONSTANT(1) << QCOW2_BITMAP_GRANULARITY_MAX)
        return fail(error, KHO_ERROR_INVALID,
                    "%s: the granularity of a bitmap is a power of two from 512 bytes to 2 GiB, not "
                    "%" G_GUINT64_FORMAT,
                    image->base.file->label, granularity);
    guint bits = (guint) g_bit_nth_lsf(granularity, -1);
    guint64 entries = qcow2_bitmap_table_entries(&image->geo, image->base.guest_bytes, bits);
    if (entries == 0 || entries > QCOW2_BITMAP_BYTES_MAX >> image->geo.cluster_bits)
        return refuse(image, error, KHO_ERROR_INVALID, change->name,
                      entries == 0 ? "would have no bits: the disk is empty"
                                   : "would take more than 512 MiB: a larger granularity helps");
    return TRUE;
}

static GPtrArray *
new_list(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify) qcow2_bitmap_free);
}

static gboolean
add(Qcow2Image *image, const FormatBitmapChange *change, GError **error)
{
    guint64 granularity = change->granularity_bytes ? change->granularity_bytes : default_granularity(image);
    Qcow2BitmapTable nothing = { 0 }, made;

    if (!check_new(image, change, granularity, error))
        return FALSE;
    guint bits = (guint) g_bit_nth_lsf(granularity, -1);
    guint64 entries = qcow2_bitmap_table_entries(&image->geo, image->base.guest_bytes, bits);
    if (!qcow2_bitmap_rebuild_locked(image, nothing, entries, NULL, &made, error))
        return FALSE;
    if (!image->bitmaps)
        image->bitmaps = qcow2_bitmaps_new(new_list());
    Qcow2Bitmap *b = g_new0(Qcow2Bitmap, 1);
    *b = (Qcow2Bitmap){ .name = g_strdup(change->name),
                        .table_off = made.off,
                        .table_entries = (guint32) made.entries,
                        .flags = change->disabled ? 0 : QCOW2_BITMAP_AUTO,
                        .granularity_bits = bits };
    g_ptr_array_add(image->bitmaps->list, b);
    if (switch_directory(image, image->bitmaps->list, error))
        return TRUE;
    if (!image->broken)
        qcow2_bitmap_release_locked(image, made, nothing, NULL);
    g_ptr_array_remove_index(image->bitmaps->list, image->bitmaps->list->len - 1);
    return FALSE;
}

static gboolean
remove_one(Qcow2Image *image, Qcow2Bitmap *bitmap, GError **error)
{
    Qcow2BitmapTable nothing = { 0 }, table = qcow2_bitmap_table(bitmap);
    g_autoptr(GPtrArray) rest = g_ptr_array_new();

    for (guint i = 0; i < image->bitmaps->list->len; i++)
        if (image->bitmaps->list->pdata[i] != bitmap)
            g_ptr_array_add(rest, image->bitmaps->list->pdata[i]);
    if (!switch_directory(image, rest, error))
        return FALSE;
    g_ptr_array_remove(image->bitmaps->list, bitmap);
    return qcow2_bitmap_release_locked(image, table, nothing, error);
}

/* --- changing one --- */

static gboolean
set_auto(Qcow2Image *image, Qcow2Bitmap *bitmap, gboolean on, GError **error)
{
    if (on)
        bitmap->flags |= QCOW2_BITMAP_AUTO;
    else
        bitmap->flags &= ~(guint32) QCOW2_BITMAP_AUTO;
    return qcow2_bitmap_write_flags_locked(image, bitmap, error);
}

/* Names another table, made beside the old one. */
static gboolean
move_to(Qcow2Image *image, Qcow2Bitmap *bitmap, Qcow2BitmapTable made, GError **error)
{
    bitmap->moved = TRUE;
    bitmap->new_table_off = made.off;
    bitmap->new_table_entries = (guint32) made.entries;
    return qcow2_bitmaps_move_locked(image, error);
}

static gboolean
clear(Qcow2Image *image, Qcow2Bitmap *bitmap, GError **error)
{
    Qcow2BitmapTable nothing = { 0 }, made;

    return qcow2_bitmap_rebuild_locked(image, nothing, bitmap->table_entries, NULL, &made, error)
           && move_to(image, bitmap, made, error);
}

static gboolean
check_merge(Qcow2Image *image, const FormatBitmapChange *change, Qcow2Image *source, GError **error)
{
    guint64 to_bytes = num_align_down(image->base.guest_bytes, 512);
    guint64 from_bytes = num_align_down(source->base.guest_bytes, 512);

    return to_bytes == from_bytes
           || fail(error, KHO_ERROR_INVALID,
                   "%s: bitmap '%s' is of a disk of %" G_GUINT64_FORMAT
                   " bytes and cannot be merged into one of a disk of %" G_GUINT64_FORMAT " bytes",
                   source->base.file->label, change->source_name, from_bytes, to_bytes);
}

static gboolean
merge_from(Qcow2Image *image, const FormatBitmapChange *change, Qcow2Image *source, GError **error)
{
    Qcow2Bitmap *to, *from;
    Qcow2BitmapTable made;

    if (!find_sound(image, change->name, &to, error) || !qcow2_bitmaps_load_locked(source, error)
        || !find_sound(source, change->source_name, &from, error)
        || !check_merge(image, change, source, error))
        return FALSE;
    if (from == to)
        return TRUE;
    const Qcow2BitmapMerge merge = { .image = image, .to = to, .source = source, .from = from };
    return qcow2_bitmap_merge_locked(&merge, &made, error) && move_to(image, to, made, error);
}

static gboolean
merge(Qcow2Image *image, const FormatBitmapChange *change, GError **error)
{
    Qcow2Image *source = change->source ? qcow2_image(change->source) : image;

    if (source == image)
        return merge_from(image, change, source, error);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&source->meta);
    return merge_from(image, change, source, error);
}

static gboolean
change_locked(Qcow2Image *image, const FormatBitmapChange *change, GError **error)
{
    Qcow2Bitmap *b;

    switch (change->action) {
    case FORMAT_BITMAP_ADD: return add(image, change, error);
    case FORMAT_BITMAP_REMOVE: return find(image, change->name, &b, error) && remove_one(image, b, error);
    case FORMAT_BITMAP_CLEAR: return find_sound(image, change->name, &b, error) && clear(image, b, error);
    case FORMAT_BITMAP_ENABLE:
    case FORMAT_BITMAP_DISABLE:
        return find_sound(image, change->name, &b, error)
               && set_auto(image, b, change->action == FORMAT_BITMAP_ENABLE, error);
    case FORMAT_BITMAP_MERGE: return merge(image, change, error);
    }
    return FALSE;
}

gboolean
qcow2_bitmap_change(FormatImage *format, const FormatBitmapChange *change, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);

    return qcow2_begin_write_locked(image, error) && qcow2_flush_locked(image, TRUE, error)
           && qcow2_bitmaps_store_locked(image, error) && change_locked(image, change, error)
           && qcow2_flush_locked(image, TRUE, error);
}

GPtrArray *
qcow2_bitmaps_describe_locked(Qcow2Image *image)
{
    if (!qcow2_bitmaps_load_locked(image, NULL) || !image->bitmaps || image->bitmaps->list->len == 0)
        return NULL;
    GPtrArray *described = g_ptr_array_new();
    for (guint i = 0; i < image->bitmaps->list->len; i++) {
        const Qcow2Bitmap *b = image->bitmaps->list->pdata[i];
        FormatBitmap *f = g_new0(FormatBitmap, 1);
        f->name = g_strdup(b->name);
        f->granularity_bytes = G_GUINT64_CONSTANT(1) << MIN(b->granularity_bits, 63);
        f->in_use = (b->flags & QCOW2_BITMAP_IN_USE) && !b->ours;
        f->is_auto = (b->flags & QCOW2_BITMAP_AUTO) != 0;
        g_ptr_array_add(described, f);
    }
    return described;
}
