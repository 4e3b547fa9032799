#include "base/error.h"
#include "qcow2/bitmap_change.h"
#include "qcow2/crypt.h"
#include "qcow2/map.h"
#include "qcow2/snapshot.h"

static FormatSnapshot *
describe(const Qcow2Snapshot *s)
{
    FormatSnapshot *f = g_new0(FormatSnapshot, 1);

    if (!g_ascii_string_to_unsigned(s->id, 10, 0, G_MAXUINT64, &f->id, NULL))
        f->id = 0;
    f->id_text = error_one_line(s->id);
    f->name = error_one_line(s->name);
    f->vm_state_bytes = s->vm_state_bytes;
    f->guest_bytes = s->guest_bytes;
    f->date_s = s->date_s;
    f->date_ns = s->date_ns;
    f->vm_clock_ns = s->vm_clock_ns;
    f->icount = s->icount;
    return f;
}

static void
free_described(gpointer snapshot)
{
    FormatSnapshot *f = snapshot;

    g_free(f->id_text);
    g_free(f->name);
    g_free(f);
}

gboolean
qcow2_info(FormatImage *format, FormatInfo *info, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
    const Qcow2Header *h = &image->header;
    g_autoptr(GPtrArray) read = qcow2_snapshots_read(format->file, h, NULL, error);

    if (!read)
        return FALSE;
    GPtrArray *snapshots = g_ptr_array_new_with_free_func(free_described);
    for (guint i = 0; i < read->len; i++)
        g_ptr_array_add(snapshots, describe(read->pdata[i]));
    LuksHeader *luks = NULL;
    if (!qcow2_crypt_describe(image, &luks, error)) {
        g_ptr_array_unref(snapshots);
        return FALSE;
    }
    *info = (FormatInfo){
        .guest_bytes = h->guest_bytes,
        .cluster_bytes = (guint32) image->geo.cluster_bytes,
        .subcluster_bytes = (guint32) image->geo.sub_bytes,
        .backing_file = g_strdup(image->extensions.backing_file),
        .backing_format = g_strdup(image->extensions.backing_format),
        .version = h->version,
        .refcount_bits = image->geo.refcount_bits,
        .compression = h->compression == QCOW2_COMPRESSION_ZSTD ? "zstd" : "zlib",
        .lazy_refcounts = qcow2_lazy(image),
        .dirty = (h->incompat & QCOW2_INCOMPAT_DIRTY) != 0,
        .corrupt = (h->incompat & QCOW2_INCOMPAT_CORRUPT) != 0,
        .extended_l2 = (h->incompat & QCOW2_INCOMPAT_EXTENDED_L2) != 0,
        .encrypted = h->crypt_method != QCOW2_CRYPT_NONE,
        .luks = luks,
        .has_data_file = qcow2_has_data_file(h),
        .data_file_raw = qcow2_data_is_raw(image),
        .data_file = qcow2_has_data_file(h) ? g_strdup(image->extensions.data_file) : NULL,
        .refusal = qcow2_write_refusal_locked(image),
        .bitmaps = qcow2_bitmaps_describe_locked(image),
        .snapshots = snapshots,
    };
    return TRUE;
}
