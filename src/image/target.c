#include "image/target.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "block/hold.h"
#include "block/nbd.h"
#include "image/encryption.h"
#include "image/prealloc.h"
#include "luks/volume.h"
#include "qcow2/qcow2.h"
#include "raw/raw.h"

#include <glib/gstdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DEFAULT_CLUSTER_BYTES 65536
/* A file that is written in place is made so long first. */
#define MARK_BYTES 4096
/* What a file system allocates as one. */
#define BLOCK_BYTES 4096

struct Target {
    char *path;
    Publish *publish; /* NULL for what is written in place */
    Publish *data;    /* the data file, where there is to be one: named first, and dropped with the image */
    BlkStore *place;  /* until it is marked */
    gboolean grows;   /* the place is a regular file */
    BlkHold *hold;    /* from then on */
    gboolean finished;
};

/* What QEMU makes for kho has QEMU's own options; what all formats have in kho's face is not among them. */
static gboolean
check_foreign(const KhoImageCreate *options, GError **error)
{
    json_auto json_t *create =
        foreign_format_create_options(options->format, options->size_bytes, options->foreign_options, error);

    if (!create)
        return FALSE;
    if (options->backing_file)
        return fail(error, KHO_ERROR_UNSUPPORTED, "kho makes no %s image with a backing file: use qcow2",
                    options->format);
    if (options->prealloc != KHO_PREALLOC_OFF || options->cluster_bytes || options->compression
        || options->qcow2_version || options->refcount_bits || options->lazy_refcounts || options->encryption)
        return fail(error, KHO_ERROR_INVALID, "an option of qcow2 is not one of format %s", options->format);
    return TRUE;
}

gboolean
target_check(const KhoImageCreate *options, GError **error)
{
    const FormatOps *ops;
    FormatFound found;

    if (!format_find(options->format, &found, error))
        return FALSE;
    if (found.foreign)
        return check_foreign(options, error);
    ops = found.ops;
    if (options->foreign_options && *options->foreign_options)
        return fail(error, KHO_ERROR_INVALID, "option '%s' is not one of format %s",
                    *options->foreign_options, ops->name);
    if (options->backing_file && ops != &qcow2_format)
        return fail(error, KHO_ERROR_INVALID, "a %s image cannot have a backing file: use qcow2", ops->name);
    if (options->backing_file && !options->backing_format)
        return fail(error, KHO_ERROR_INVALID, "the backing file %s needs its format stated",
                    options->backing_file);
    if (options->backing_format && !options->backing_file)
        return fail(error, KHO_ERROR_INVALID, "a backing format without a backing file");
    if (options->size_bytes > NUM_OFFSET_MAX - IMAGE_SECTOR_BYTES)
        return fail(error, KHO_ERROR_INVALID, "a size of %" G_GUINT64_FORMAT " bytes is too large",
                    options->size_bytes);
    if (options->data_file && ops != &qcow2_format)
        return fail(error, KHO_ERROR_INVALID, "a %s image cannot have a data file: use qcow2", ops->name);
    if (options->data_file_raw && !options->data_file)
        return fail(error, KHO_ERROR_INVALID, "data_file_raw is about a data file, and none is named");
    LuksFormat format;
    if (ops == &luks_volume_format && !options->encryption)
        return fail(error, KHO_ERROR_INVALID, "Parameter 'key-secret' is required for cipher");
    if (options->encryption && !encryption_read(options, &format, error))
        return FALSE;
    return prealloc_check(ops, options->prealloc, options->backing_file != NULL, error);
}

static KhoPrealloc
prealloc_of(const KhoImageCreate *options)
{
    if (g_str_equal(options->format, luks_volume_format.name) && options->prealloc == KHO_PREALLOC_METADATA)
        return KHO_PREALLOC_OFF;
    /* What reads like the disk by itself is mapped as a whole. */
    return options->data_file_raw ? MAX(options->prealloc, KHO_PREALLOC_METADATA) : options->prealloc;
}

/* Sees that the backing chain can be opened, has not the file in it that is about to be replaced, and how
 * large it is. Headers only: the backing file may well be in use. */
static gboolean
look_at_backing(Target *target, const KhoImageCreate *options, const KhoImageGate *gate, guint64 *size_bytes,
                GError **error)
{
    const char *path = target->path;
    g_autofree char *where = image_backing_path(path, options->backing_file, error);
    const struct stat *replaced[] = { target->publish ? publish_replaced(target->publish) : NULL,
                                      target->data ? publish_replaced(target->data) : NULL };

    if (!where || !image_pass_gate(gate, where, path, error))
        return FALSE;
    g_autoptr(KhoImage) backing =
        kho_image_open(where, options->backing_format, KHO_IMAGE_IDLE_LOCK, gate, error);
    if (!backing) {
        g_prefix_error(error, "backing file: ");
        return FALSE;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(replaced); i++) {
        const KhoImage *hit = replaced[i] ? image_find_file(backing, replaced[i]) : NULL;
        if (hit)
            return fail(error, KHO_ERROR_INVALID, "the backing chain of %s would loop: %s is a part of it",
                        path, hit->path);
    }
    if (*size_bytes == 0 && !options->exact_size)
        *size_bytes = kho_image_size_bytes(backing);
    return TRUE;
}

static gboolean
read_compression(const char *name, Qcow2Compression *compression, GError **error)
{
    if (name && !g_str_equal(name, "zlib") && !g_str_equal(name, "zstd"))
        return fail(error, KHO_ERROR_INVALID, "unknown compression '%s': there are zlib and zstd", name);
    *compression = name && g_str_equal(name, "zstd") ? QCOW2_COMPRESSION_ZSTD : QCOW2_COMPRESSION_ZLIB;
    return TRUE;
}

static guint32
cluster_bytes(const KhoImageCreate *options)
{
    if (!g_str_equal(options->format, qcow2_format.name))
        return 1;
    return options->cluster_bytes ? options->cluster_bytes : DEFAULT_CLUSTER_BYTES;
}

/* *key is set where the image is encrypted. */
static gboolean
write_format(BlkStore *file, const KhoImageCreate *options, guint64 size_bytes, LuksKey *key, GError **error)
{
    LuksFormat luks;

    if (g_str_equal(options->format, raw_format.name))
        return blk_truncate(file, size_bytes, error);
    if (options->encryption && !encryption_read(options, &luks, error))
        return FALSE;
    if (g_str_equal(options->format, luks_volume_format.name))
        return luks_volume_create(file, &luks, size_bytes, key, error);

    Qcow2CreateOptions create = {
        .guest_bytes = size_bytes,
        .cluster_bytes = options->cluster_bytes,
        .version = options->qcow2_version,
        .refcount_bits = options->refcount_bits,
        .lazy_refcounts = options->lazy_refcounts,
        .extended_l2 = options->extended_l2,
        .data_file = options->data_file,
        .data_file_raw = options->data_file_raw,
        .backing_file = options->backing_file,
        .backing_format = options->backing_format,
        .luks = options->encryption ? &luks : NULL,
        .unpublished = TRUE,
    };
    return read_compression(options->compression, &create.compression, error)
           && qcow2_create_keyed(file, &create, key, error);
}

/* Is what stands at @path to be written as it is: a device, or a file that a new one could not take the place
 * of, since it is another user's, or in a folder that takes no new files? */
static gboolean
is_to_stay(const char *path, gboolean *is_file)
{
    char *real = realpath(path, NULL);
    g_autofree char *folder = real ? g_path_get_dirname(real) : NULL;
    GStatBuf st;

    free(real);
    if (!folder || g_stat(path, &st) != 0)
        return FALSE;
    *is_file = S_ISREG(st.st_mode);
    if (S_ISBLK(st.st_mode))
        return TRUE;
    return *is_file && g_access(path, R_OK | W_OK) == 0
           && ((geteuid() != 0 && st.st_uid != geteuid()) || g_access(folder, W_OK | X_OK) != 0);
}

static BlkStore *
open_place(const char *path, GError **error)
{
    g_autoptr(BlkStore) place = blk_file_open(path, TRUE, error);

    return place && image_lock(place, IMAGE_LOCK_WRITE, error) ? g_steal_pointer(&place) : NULL;
}

/* A rename changes what one name leads to. */
static void
tell_of_links(const char *path, const KhoImageCreate *options, const struct stat *replaced)
{
    if (options->leaves_links && replaced && replaced->st_nlink > 1)
        options->leaves_links(path, (guint) replaced->st_nlink - 1);
}

Target *
target_begin(const char *path, const KhoImageCreate *options, const KhoJob *job, GError **error)
{
    Target *target = g_new0(Target, 1);

    target->path = g_strdup(path);
    if (blk_nbd_is_name(path) && foreign_format_find(options->format))
        fail(error, KHO_ERROR_UNSUPPORTED, "%s: a %s image is made in a file, not at a server", path,
             options->format);
    else if (!blk_nbd_is_name(path) && options->overwrite && !foreign_format_find(options->format)
             && is_to_stay(path, &target->grows))
        target->place = open_place(path, error);
    else if (!blk_nbd_is_name(path))
        target->publish = publish_begin(path, options->mode, options->overwrite ? PUBLISH_REPLACE : 0, error);
    else if (options->overwrite)
        target->place = blk_nbd_open(path, TRUE, job, error);
    else
        fail(error, KHO_ERROR_EXISTS, "%s would be overwritten: that must be asked for (--force)", path);
    if (target->publish)
        tell_of_links(path, options, publish_replaced(target->publish));
    if (target->publish || target->place)
        return target;
    target_free(target, NULL);
    return NULL;
}

/* Space for @reserved bytes from the start of the disk, where the guest's bytes go and where the tables do.
 */
static gboolean
check_space(Target *target, const KhoImageCreate *options, guint64 reserved, GError **error)
{
    KhoPrealloc prealloc = prealloc_kind(prealloc_of(options), options->encryption != NULL);

    if (target->data) {
        if (!publish_check_space(target->data, prealloc_least_bytes(prealloc, reserved, 1, FALSE), error))
            return FALSE;
        prealloc = MIN(prealloc, KHO_PREALLOC_METADATA);
    }
    return publish_check_space(
        target->publish, prealloc_least_bytes(prealloc, reserved, cluster_bytes(options), FALSE), error);
}

/* How long a LUKS volume is; 0 for other formats. */
static guint64
luks_bytes(const KhoImageCreate *options, guint64 size_bytes)
{
    LuksSpec spec;

    if (!g_str_equal(options->format, luks_volume_format.name) || !encryption_read_spec(options, &spec, NULL))
        return 0;
    return luks_volume_head_bytes(&spec) + size_bytes;
}

CostPlace
target_cost_place(const Target *target, const KhoImageCreate *options, guint64 size_bytes)
{
    KhoPrealloc prealloc = prealloc_kind(prealloc_of(options), options->encryption != NULL);
    guint64 wanted = options->prealloc_bytes ? MIN(options->prealloc_bytes, size_bytes) : size_bytes;
    gboolean foreign = foreign_format_find(options->format) != NULL;
    guint64 cluster = cluster_bytes(options), luks = luks_bytes(options, size_bytes);
    guint64 head = luks > size_bytes ? luks - size_bytes : 0;

    return (CostPlace){
        .path = target->path,
        .fd = target->publish && !options->data_file ? publish_fd(target->publish) : -1,
        .cluster_bytes = cluster == 1 ? BLOCK_BYTES : cluster,
        .table_span_bytes = cost_table_span(cluster, options->extended_l2),
        .reserved_bytes = head + prealloc_space_bytes(prealloc, wanted, (guint32) cluster),
        .least_bytes = prealloc_least_bytes(prealloc, wanted, (guint32) cluster, FALSE),
        .encrypts = options->encryption != NULL,
        .reserves_data = prealloc >= KHO_PREALLOC_FALLOC && wanted == size_bytes,
        .writes_zeros = luks > 0 || (options->qcow2_version == 2 && options->backing_file),
        .may_be_less = options->backing_file || foreign,
    };
}

void
target_plan_loss(const Target *target, KhoImagePlan *plan)
{
    if (target->place)
        cost_lost(plan, "what %s holds now, from the first write on", target->path);
    else if (publish_replaced(target->publish))
        cost_lost(plan, "the file that stands at %s", target->path);
}

/* While the file is empty. A file system that knows no such thing is as good. */
static void
hint_extents(BlkStore *file, const KhoImageCreate *options)
{
    int error_number = 0;

    if (file && options->extent_hint_bytes && blk_fd(file) >= 0)
        error_number = fd_set_extent_hint(blk_fd(file), options->extent_hint_bytes);
    if (error_number && options->no_extent_hint)
        options->no_extent_hint(error_number);
}

static BlkStore *
new_file(Publish *publish, const KhoImageCreate *options, GError **error)
{
    BlkStore *file = publish_store(publish, error);

    hint_extents(file, options);
    return file;
}

/* The store that the new image is made in. What is written in place is marked now. */
static BlkStore *
target_store(Target *target, const KhoImageCreate *options, guint64 size_bytes, GError **error)
{
    guint64 reserved = options->prealloc_bytes ? MIN(options->prealloc_bytes, size_bytes) : size_bytes;
    guint64 there;

    if (target->publish)
        return check_space(target, options, reserved, error) ? new_file(target->publish, options, error)
                                                             : NULL;
    gboolean is_raw = g_str_equal(options->format, raw_format.name);
    guint64 needed = is_raw ? size_bytes : luks_bytes(options, size_bytes);

    /* Before anything is lost. */
    if (!blk_size(target->place, &there, error))
        return NULL;
    if (target->grows) { /* what it holds goes first; the mark has room all the same */
        if (!blk_truncate(target->place, 0, error))
            return NULL;
        hint_extents(target->place, options);
        if (!blk_truncate(target->place, is_raw ? MIN(size_bytes, MARK_BYTES) : MARK_BYTES, error))
            return NULL;
    } else if (there < needed) {
        fail(error, KHO_ERROR_NO_SPACE,
             "%s has %" G_GUINT64_FORMAT " bytes, and %" G_GUINT64_FORMAT " are needed", target->path, there,
             needed);
        return NULL;
    }
    target->hold = blk_hold_begin(g_steal_pointer(&target->place), error);
    return target->hold ? blk_hold_store(target->hold) : NULL;
}

/* The data file is made beside its place, too, and gets its name together with the image. */
static gboolean
begin_data(Target *target, const KhoImageCreate *options, const KhoImageGate *gate, GError **error)
{
    g_autofree char *where = image_data_path(target->path, options->data_file, error);

    if (!where)
        return FALSE;
    if (!target->publish || blk_nbd_is_name(where))
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s cannot have the data file %s: both must be local files",
                    target->path, where);
    if (!image_pass_gate(gate, where, target->path, error))
        return FALSE;
    g_autofree char *absolute = g_canonicalize_filename(where, NULL);
    g_autofree char *own = g_canonicalize_filename(target->path, NULL);
    if (g_str_equal(absolute, own))
        return fail(error, KHO_ERROR_INVALID, "%s cannot be its own data file", target->path);
    GStatBuf st;
    if (!options->overwrite_data && g_lstat(where, &st) == 0)
        return fail(error, KHO_ERROR_EXISTS,
                    "the data file %s exists already: remove it first, or name another", where);
    target->data = publish_begin(where, options->mode, options->overwrite_data ? PUBLISH_REPLACE : 0, error);
    return target->data != NULL;
}

static gboolean
attach_data(Target *target, const KhoImageCreate *options, KhoImage *image, guint64 size_bytes,
            GError **error)
{
    if (!target->data)
        return TRUE;
    g_autoptr(BlkStore) store = new_file(target->data, options, error);
    if (!store || !blk_truncate(store, size_bytes, error))
        return FALSE;
    g_autofree char *path = g_strdup(store->label);
    return image_set_data(image, g_steal_pointer(&store), path, error);
}

/* All of a data file that is raw is mapped, whatever is reserved of it. */
static gboolean
preallocate(KhoImage *image, const KhoImageCreate *options, const KhoJob *job, GError **error)
{
    guint64 size = kho_image_size_bytes(image);
    guint64 reserved = options->prealloc_bytes ? MIN(options->prealloc_bytes, size) : size;

    return prealloc_range(image, 0, reserved, prealloc_of(options), job, error)
           && (!options->data_file_raw
               || prealloc_range(image, reserved, size, KHO_PREALLOC_METADATA, job, error));
}

gboolean
target_look(Target *target, const KhoImageCreate *options, const KhoImageGate *gate, guint64 *size_bytes,
            GError **error)
{
    if ((options->data_file && !begin_data(target, options, gate, error))
        || (options->backing_file && !options->backing_unchecked
            && !look_at_backing(target, options, gate, size_bytes, error)))
        return FALSE;
    *size_bytes = num_align_up(*size_bytes, IMAGE_SECTOR_BYTES);
    return TRUE;
}

gboolean
target_try(const Target *target, const KhoImageCreate *options, guint64 size_bytes, GError **error)
{
    gboolean is_raw = g_str_equal(options->format, raw_format.name);
    g_autoptr(BlkStore) memory = blk_mem_new(NULL, 0, target->path);

    if (foreign_format_find(options->format) || options->encryption)
        return TRUE; /* QEMU knows; and deriving a key takes seconds */
    if (is_raw)
        return !target->publish || fd_truncate(publish_fd(target->publish), size_bytes, target->path, error);
    return write_format(memory, options, size_bytes, NULL, error);
}

static gboolean
unlock_new(FormatImage *image, const LuksKey *key, GError **error)
{
    return image->ops == &luks_volume_format ? luks_volume_unlock_with(image, key, error)
                                             : qcow2_unlock_with(image, key, error);
}

KhoImage *
target_open(Target *target, const KhoImageCreate *options, guint64 size, const KhoJob *job, GError **error)
{
    g_auto(LuksKey) key = { .len = 0 };
    g_autoptr(BlkStore) file = target_store(target, options, size, error);
    const ForeignImage foreign = {
        .format = foreign_format_find(options->format), .path = target->path, .writable = TRUE, .job = job
    };
    if (file && foreign.format)
        return image_make_foreign(g_steal_pointer(&file), &foreign, size, options->foreign_options, error);
    if (!file || !write_format(file, options, size, &key, error))
        return NULL;

    const FormatOps *ops = format_by_name(options->format, error);
    g_autoptr(KhoImage) image = image_over_store(g_steal_pointer(&file), ops,
                                                 FORMAT_WRITABLE | FORMAT_UNPUBLISHED, target->path, error);
    if (!image || (options->encryption && !unlock_new(image->format, &key, error))
        || !attach_data(target, options, image, size, error) || !preallocate(image, options, job, error))
        return NULL;
    return g_steal_pointer(&image);
}

gboolean
target_is_zero(const Target *target, const KhoImageCreate *options)
{
    return !options->backing_file && !g_str_equal(options->format, luks_volume_format.name)
           && (target->publish || !g_str_equal(options->format, raw_format.name));
}

gboolean
target_finish(Target *target, KhoImage *image, const KhoJob *job, GError **error)
{
    if (!kho_image_close(image, error))
        return FALSE;
    if (target->data && !publish_finish(target->data, job, error))
        return FALSE;
    if (target->publish) {
        gboolean done = publish_finish(target->publish, job, error);
        if (target->data && !publish_is_named(target->publish))
            publish_take_back(target->data);
        return done;
    }
    target->finished = blk_hold_finish(target->hold, error);
    return target->finished;
}

/* The copy engine, which knows nothing of marks, may have said that nothing changed. */
static void
tell_mark(const Target *target, GError **error)
{
    GError *cause = *error;

    *error = NULL;
    if (cause->code == KHO_ERROR_CANCELLED)
        fail(error, KHO_ERROR_CANCELLED, "cancelled: %s is incomplete, and marked so", target->path);
    else
        fail(error, (KhoErrorCode) cause->code, "%s; %s is incomplete, and marked so", cause->message,
             target->path);
    g_error_free(cause);
}

void
target_free(Target *target, GError **error)
{
    if (target->hold && !target->finished && error && *error)
        tell_mark(target, error);
    g_clear_pointer(&target->publish, publish_free);
    g_clear_pointer(&target->data, publish_free);
    g_clear_pointer(&target->place, blk_free);
    g_clear_pointer(&target->hold, blk_hold_free);
    g_free(target->path);
    g_free(target);
}
