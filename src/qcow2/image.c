#include "qcow2/image.h"

#include "base/error.h"
#include "qcow2/bitmap_track.h"
#include "qcow2/crypt.h"
#include "qcow2/entry.h"
#include "qcow2/flush.h"
#include "qcow2/qcow2.h"
#include "qcow2/repair.h"

#include <string.h>

Qcow2Image *
qcow2_image_new(BlkStore *file, const Qcow2Header *header, guint8 *head, FormatFlags flags, GError **error)
{
    g_auto(Qcow2Extensions) extensions = { 0 };
    Qcow2Geometry geo;

    qcow2_header_derive(header, &geo);
    if (!qcow2_extensions_decode(head, geo.cluster_bytes, header, &extensions, error))
        return NULL;
    Qcow2Image *image = g_new0(Qcow2Image, 1);
    image->base.file = file;
    image->base.flags = flags;
    image->base.guest_bytes = header->guest_bytes;
    image->header = *header;
    image->geo = geo;
    image->head = head;
    image->extensions = extensions;
    extensions = (Qcow2Extensions){ 0 };
    qcow2_crypt_attach(image);
    image->lowers = g_array_new(FALSE, FALSE, sizeof(Qcow2Lower));
    g_mutex_init(&image->meta);
    g_cond_init(&image->place_gone);
    g_queue_init(&image->places);
    qcow2_cache_init(&image->cache, file, geo.cluster_bytes);
    if (header->incompat & QCOW2_INCOMPAT_CORRUPT)
        image->refusal = g_strdup("the image is marked corrupt; repair it first");
    return image;
}

void
qcow2_image_free(Qcow2Image *image)
{
    qcow2_crypt_detach(image);
    if (!image->borrowed)
        blk_free(image->base.file);
    qcow2_extensions_clear(&image->extensions);
    qcow2_words_clear(&image->l1);
    qcow2_words_clear(&image->held.l1);
    qcow2_words_clear(&image->state.disk_l1);
    qcow2_words_clear(&image->state.written);
    qcow2_words_clear(&image->reftable);
    qcow2_cache_clear(&image->cache);
    qcow2_guard_clear(&image->guard);
    qcow2_bitmaps_free(image->bitmaps);
    g_queue_clear_full(&image->places, g_free);
    g_array_unref(image->lowers);
    for (guint i = 0; i < QCOW2_INFLATED; i++)
        g_free(image->inflated[i].bytes);
    g_mutex_clear(&image->meta);
    g_cond_clear(&image->place_gone);
    g_free(image->refusal);
    g_free(image->head);
    g_free(image);
}

FormatImage *
qcow2_open(BlkStore *file, FormatFlags flags, GError **error)
{
    g_autofree guint8 *head = NULL;
    Qcow2Header header;

    if (!qcow2_header_read(file, &header, &head, error))
        return NULL;
    Qcow2Image *image = qcow2_image_new(file, &header, head, flags, error);
    if (!image) {
        g_prefix_error(error, "%s: ", file->label);
        return NULL;
    }
    head = NULL;
    image->base.ops = &qcow2_format;
    return &image->base;
}

void
qcow2_set_data(FormatImage *format, BlkStore *data)
{
    Qcow2Image *image = qcow2_image(format);

    g_assert(qcow2_has_data_file(&image->header) && !image->base.data);
    if (image->base.encrypted)
        qcow2_crypt_set_data(image, data);
    else
        image->base.data = data;
}

gboolean
qcow2_corrupt_locked(Qcow2Image *image, GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    if (!image->refusal)
        image->refusal = g_strdup_printf("it is corrupt (%s); check and repair it first", what);
    image->found_corrupt = TRUE;
    return fail(error, KHO_ERROR_CORRUPT, "%s is corrupt: %s", image->base.file->label, what);
}

gboolean
qcow2_within_file_locked(Qcow2Image *image, guint64 off, gboolean *within, GError **error)
{
    if (off >= image->file_bytes && !blk_size(image->base.file, &image->file_bytes, error))
        return FALSE;
    *within = off < image->file_bytes;
    return TRUE;
}

gboolean
qcow2_load_l1_locked(Qcow2Image *image, GError **error)
{
    if (image->l1.words)
        return TRUE;
    return qcow2_words_load(&image->l1, image->base.file, image->header.l1_off, image->header.l1_entries,
                            error);
}

gboolean
qcow2_load_reftable_locked(Qcow2Image *image, GError **error)
{
    return image->reftable.words
           || qcow2_words_load(&image->reftable, image->base.file, image->header.reftable_off,
                               image->geo.reftable_entries, error);
}

gboolean
qcow2_header_write_locked(Qcow2Image *image, GError **error)
{
    guint8 fields[QCOW2_FIELDS_BYTES];
    gsize len = MIN(image->header.header_bytes, sizeof fields);

    memcpy(fields, image->head, len);
    qcow2_header_encode(&image->header, fields, len);
    if (!image->no_header && !blk_pwrite(image->base.file, 0, fields, len, error))
        return FALSE;
    memcpy(image->head, fields, len);
    return TRUE;
}

/* One row of the guard: a table that lies somewhere. */
static gboolean
guard_table(Qcow2Image *image, guint64 off, guint64 bytes, const char *what, guint64 index, GError **error)
{
    guint64 first = off >> image->geo.cluster_bits;
    guint64 n = num_div_up(bytes, image->geo.cluster_bytes);
    gboolean within;

    if (n == 0)
        return TRUE;
    if (!qcow2_within_file_locked(image, off, &within, error))
        return FALSE;
    if (!within)
        return qcow2_corrupt_locked(image, error, "%s %" G_GUINT64_FORMAT " lies past the end of the file",
                                    what, index);
    if (!qcow2_guard_mark(&image->guard, first, n))
        return qcow2_corrupt_locked(image, error,
                                    "%s %" G_GUINT64_FORMAT " at byte %" G_GUINT64_FORMAT
                                    " lies where other metadata is",
                                    what, index, off);
    return TRUE;
}

static gboolean
build_guard(Qcow2Image *image, GError **error)
{
    guint64 cluster = image->geo.cluster_bytes;

    qcow2_guard_clear(&image->guard);
    qcow2_guard_mark(&image->guard, 0, 1);
    if (!guard_table(image, image->header.l1_off, image->l1.n * 8, "the L1 table", 0, error)
        || !guard_table(image, image->header.reftable_off, image->reftable.n * 8, "the refcount table", 0,
                        error))
        return FALSE;
    if (!guard_table(image, image->extensions.luks_off, image->extensions.luks_bytes, "the LUKS header", 0,
                     error))
        return FALSE;
    /* A snapshot table's exact length takes reading it; its first cluster will do here. */
    if (image->header.snapshots > 0
        && !guard_table(image, image->header.snapshots_off, cluster, "the snapshot table", 0, error))
        return FALSE;
    for (guint64 i = 0; i < image->reftable.n; i++) {
        guint64 off;
        const char *wrong = qcow2_reftable_decode(image->reftable.words[i], &image->header, &off);
        if (wrong)
            return qcow2_corrupt_locked(image, error, "refcount table entry %" G_GUINT64_FORMAT " %s", i,
                                        wrong);
        if (off != 0 && !guard_table(image, off, cluster, "refcount block", i, error))
            return FALSE;
    }
    for (guint64 i = 0; i < image->l1.n; i++) {
        guint64 off;
        gboolean copied;
        const char *wrong = qcow2_l1_decode(image->l1.words[i], &image->header, &off, &copied);
        if (wrong)
            return qcow2_corrupt_locked(image, error, "L1 entry %" G_GUINT64_FORMAT " %s", i, wrong);
        if (off != 0 && !guard_table(image, off, cluster, "L2 table", i, error))
            return FALSE;
    }
    return qcow2_bitmaps_guard_locked(image, error);
}

/* The encryption that is only read. */
static char *
refuse_aes(const Qcow2Image *image)
{
    if (image->header.crypt_method != QCOW2_CRYPT_AES)
        return NULL;
    return g_strdup_printf("%s has QEMU's old AES encryption, which is only read, since it is broken: "
                           "convert it (kho img convert -O qcow2 -o encrypt.format=luks,...)",
                           image->base.file->label);
}

char *
qcow2_write_refusal_locked(Qcow2Image *image)
{
    char *refusal = refuse_aes(image);

    return refusal ? refusal : qcow2_bitmaps_refusal_locked(image);
}

static gboolean
takes_writes(Qcow2Image *image, GError **error)
{
    const char *label = image->base.file->label;

    if (!(image->base.flags & FORMAT_WRITABLE))
        return fail(error, KHO_ERROR_DENIED, "%s is open for reading only", label);
    if (image->broken)
        return fail(error, KHO_ERROR_IO, "%s takes no more writes: an earlier flush failed", label);
    if (image->refusal)
        return fail(error, KHO_ERROR_CORRUPT, "%s takes no writes: %s", label, image->refusal);
    g_autofree char *refusal = refuse_aes(image);
    if (refusal)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s", refusal);
    if (!image->base.data)
        return fail(error, KHO_ERROR_INVALID, "%s takes no writes: its data file is not open", label);
    return qcow2_load_l1_locked(image, error) && qcow2_load_reftable_locked(image, error);
}

gboolean
qcow2_look_before_write_locked(Qcow2Image *image, GError **error)
{
    return takes_writes(image, error)
           && (image->writing || (image->header.incompat & QCOW2_INCOMPAT_DIRTY)
               || build_guard(image, error));
}

gboolean
qcow2_begin_write_locked(Qcow2Image *image, GError **error)
{
    if (image->writing && !image->broken && !image->refusal)
        return TRUE;
    if (!takes_writes(image, error))
        return FALSE;
    if ((image->header.incompat & QCOW2_INCOMPAT_DIRTY) && !qcow2_rebuild_refcounts_locked(image, error))
        return FALSE;
    if (!build_guard(image, error))
        return FALSE;
    guint64 kept = image->header.autoclear & QCOW2_AUTOCLEAR_RAW_DATA_FILE;
    if (qcow2_has_bitmaps(image))
        kept |= QCOW2_AUTOCLEAR_BITMAPS;
    if (image->header.autoclear != kept) {
        image->header.autoclear = kept;
        if (!qcow2_header_write_locked(image, error) || !qcow2_barrier(image, QCOW2_RULE_NONE, error))
            return FALSE;
    }
    image->writing = TRUE;
    return TRUE;
}
