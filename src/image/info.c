#include "base/error.h"
#include "base/fd.h"
#include "image/image.h"
#include "luks/header.h"

#include <string.h>

static void
snapshot_free(gpointer data)
{
    KhoImageSnapshot *snapshot = data;

    g_free(snapshot->id);
    g_free(snapshot->name);
    g_free(snapshot);
}

static GPtrArray *
snapshots_of(const FormatInfo *found)
{
    GPtrArray *snapshots = g_ptr_array_new_with_free_func(snapshot_free);

    for (guint i = 0; found->snapshots && i < found->snapshots->len; i++) {
        const FormatSnapshot *from = g_ptr_array_index(found->snapshots, i);
        KhoImageSnapshot *to = g_new0(KhoImageSnapshot, 1);

        to->id = g_strdup(from->id_text);
        to->name = g_strdup(from->name);
        to->vm_state_bytes = from->vm_state_bytes;
        to->size_bytes = from->guest_bytes;
        to->vm_clock_ns = from->vm_clock_ns;
        to->date_s = from->date_s;
        to->date_ns = from->date_ns;
        to->icount = from->icount;
        g_ptr_array_add(snapshots, to);
    }
    return snapshots;
}

static void
bitmap_free(gpointer data)
{
    KhoImageBitmap *bitmap = data;

    g_free(bitmap->name);
    g_free(bitmap);
}

static GPtrArray *
bitmaps_of(const FormatInfo *found)
{
    GPtrArray *bitmaps = g_ptr_array_new_with_free_func(bitmap_free);

    for (guint i = 0; found->bitmaps && i < found->bitmaps->len; i++) {
        const FormatBitmap *from = g_ptr_array_index(found->bitmaps, i);
        KhoImageBitmap *to = g_new0(KhoImageBitmap, 1);

        to->name = error_one_line(from->name);
        to->granularity_bytes = from->granularity_bytes;
        to->in_use = from->in_use;
        to->is_auto = from->is_auto;
        g_ptr_array_add(bitmaps, to);
    }
    return bitmaps;
}

static KhoImageEncryptionInfo *
encryption_of(const FormatInfo *found)
{
    const LuksHeader *luks = found->luks;
    KhoImageEncryptionInfo *info = found->encrypted ? g_new0(KhoImageEncryptionInfo, 1) : NULL;
    LuksNames names;
    LuksSpec spec;

    if (!info)
        return NULL;
    info->format = luks ? "luks" : "aes";
    if (!luks)
        return info;
    luks_header_derive(luks, &spec);
    luks_spec_names(&spec, &names);
    info->cipher_alg = names.cipher;
    info->cipher_mode = names.mode;
    info->ivgen_alg = names.iv;
    info->ivgen_hash_alg = names.iv_hash;
    info->hash_alg = names.hash;
    g_autofree char *uuid = error_one_line(luks->uuid);
    g_strlcpy(info->uuid, uuid, sizeof info->uuid);
    info->payload_offset_bytes = (guint64) luks->payload_sector * CIPHER_SECTOR_BYTES;
    info->master_key_iterations = luks->digest_iterations;
    G_STATIC_ASSERT(LUKS_SLOTS == KHO_IMAGE_KEY_SLOTS);
    for (guint i = 0; i < LUKS_SLOTS; i++) {
        const LuksSlot *slot = &luks->slots[i];
        info->slots[i] = (KhoImageKeySlot){
            .active = slot->state == LUKS_SLOT_ENABLED,
            .iterations = slot->iterations,
            .stripes = slot->stripes,
            .key_offset_bytes = (guint64) slot->material_sector * CIPHER_SECTOR_BYTES,
        };
    }
    return info;
}

static void
take_over(KhoImageInfo *info, FormatInfo *found)
{
    info->virtual_bytes = found->guest_bytes;
    info->cluster_bytes = found->cluster_bytes;
    info->backing_file = g_steal_pointer(&found->backing_file);
    info->backing_format = g_steal_pointer(&found->backing_format);
    info->qcow2_version = found->version;
    info->refcount_bits = found->refcount_bits;
    info->compression = found->compression;
    info->lazy_refcounts = found->lazy_refcounts;
    info->dirty = found->dirty;
    info->corrupt = found->corrupt;
    info->encrypted = found->encrypted;
    info->encryption = encryption_of(found);
    info->extended_l2 = found->extended_l2;
    info->has_data_file = found->has_data_file;
    info->data_file_raw = found->data_file_raw;
    info->data_file = g_steal_pointer(&found->data_file);
    info->snapshots = snapshots_of(found);
    info->bitmaps = bitmaps_of(found);
}

/* What QEMU says of a foreign image. */
static gboolean
look_foreign(KhoImage *image, KhoImageInfo *info, GError **error)
{
    json_auto json_t *said = foreign_info(image->foreign, error);
    const json_t *specific = said ? json_object_get(said, "format-specific") : NULL;

    if (!said)
        return FALSE;
    info->cluster_bytes = (guint32) CLAMP(json_int_or(said, "cluster-size", 0), 0, G_MAXUINT32);
    info->dirty = json_is_true(json_object_get(said, "dirty-flag"));
    info->encrypted = json_is_true(json_object_get(said, "encrypted"));
    info->backing_file = g_strdup(json_string_or(said, "backing-filename", NULL));
    info->full_backing_path = g_strdup(json_string_or(said, "full-backing-filename", NULL));
    info->backing_format = g_strdup(json_string_or(said, "backing-filename-format", NULL));
    info->specific = specific ? json_line(specific) : NULL;
    return TRUE;
}

gboolean
kho_image_describe(KhoImage *image, KhoImageInfo *info, GError **error)
{
    FormatInfo found;
    guint64 file_bytes;

    BlkStore *file = image->foreign_file ? image->foreign_file : image->format->file;
    if (!blk_size(file, &file_bytes, error) || !format_info(image->format, &found, error))
        return FALSE;
    *info = (KhoImageInfo){ 0 };
    take_over(info, &found);
    format_info_clear(&found);
    info->path = g_strdup(image->path);
    info->format = g_strdup(kho_image_format(image));
    info->file_bytes = file_bytes;
    info->actual_bytes = (guint64) image->identity.st_blocks * 512;
    info->actual_unknown = blk_fd(file) < 0;
    /* A name with a protocol leads nowhere that kho can follow: the name alone is told then. */
    if (info->backing_file)
        info->full_backing_path = image_backing_path(image->path, info->backing_file, NULL);
    if (info->data_file)
        info->full_data_path = image_data_path(image->path, info->data_file, NULL);
    return !image->foreign || look_foreign(image, info, error);
}

gboolean
kho_image_info_source(const KhoImageSource *source, KhoImageInfo *info, GError **error)
{
    KhoImageSource one = *source;
    KhoImageInfo found = { 0 };

    one.flags =
        KHO_IMAGE_NO_BACKING | KHO_IMAGE_IDLE_LOCK | (source->flags & (KHO_IMAGE_LOCAL | KHO_IMAGE_VOLUMES));
    g_autoptr(KhoImage) image = kho_image_open_source(&one, error);
    if (!image || !kho_image_describe(image, &found, error))
        return FALSE;
    if ((source->flags & KHO_IMAGE_LOCAL) && found.backing_file && kho_image_is_remote(found.backing_file))
        g_clear_pointer(&found.full_backing_path, g_free);
    *info = found;
    return TRUE;
}

gboolean
kho_image_info(const char *path, const char *format, KhoImageInfo *info, GError **error)
{
    KhoImageSource source = { .path = path, .format = format, .flags = KHO_IMAGE_LOCAL };

    return kho_image_info_source(&source, info, error);
}

void
kho_image_info_clear(KhoImageInfo *info)
{
    g_free(info->path);
    g_free(info->format);
    g_free(info->backing_file);
    g_free(info->full_backing_path);
    g_free(info->backing_format);
    g_free(info->encryption);
    g_free(info->specific);
    g_free(info->data_file);
    g_free(info->full_data_path);
    g_clear_pointer(&info->snapshots, g_ptr_array_unref);
    g_clear_pointer(&info->bitmaps, g_ptr_array_unref);
    memset(info, 0, sizeof *info);
}
