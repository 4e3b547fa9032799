#include "image/image.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "block/nbd.h"
#include "luks/volume.h"
#include "raw/raw.h"

#include <glib/gstdio.h>
#include <string.h>

static gboolean
admit_all(const char *path, const char *referrer, gpointer data, GError **error)
{
    return TRUE;
}

const KhoImageGate kho_image_gate_open = { .admit = admit_all };

gboolean
kho_image_is_remote(const char *path)
{
    return blk_nbd_is_name(path);
}

gboolean
image_same_file(const struct stat *a, const struct stat *b)
{
    /* A store without a descriptor has no identity to compare. */
    return a->st_ino != 0 && a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

gboolean
image_is_at(const KhoImage *image, const char *path)
{
    struct stat st;

    if (blk_nbd_is_name(path))
        return g_str_equal(image->path, path);
    return g_stat(path, &st) == 0 && image_same_file(&image->identity, &st);
}

gboolean
image_same_place(const KhoImage *a, const KhoImage *b)
{
    return blk_nbd_is_name(a->path) ? g_str_equal(a->path, b->path)
                                    : image_same_file(&a->identity, &b->identity);
}

KhoImage *
image_owner(KhoImage *chain, const KhoMapEntry *entry)
{
    while (chain->depth < entry->depth)
        chain = chain->backing;
    return chain;
}

/* Flushes when writable and frees this image alone. */
static gboolean
close_one(KhoImage *image, GError **error)
{
    gboolean flushed = !image->format || format_close(image->format, error);

    if (image->whole) /* open for reading only: nothing to flush */
        format_close(image->whole, NULL);
    if (image->foreign)
        flushed = foreign_end(image->foreign, flushed ? error : NULL) && flushed;
    g_clear_pointer(&image->foreign_file, blk_free);
    range_lock_clear(&image->ranges);
    g_free(image->path);
    g_free(image->data_name);
    g_free(image->data_path);
    g_free(image);
    return flushed;
}

gboolean
kho_image_close(KhoImage *image, GError **error)
{
    gboolean flushed = TRUE;

    /* Only the first image of a chain is writable, so only its flush can fail. */
    for (gboolean first = TRUE; image; first = FALSE) {
        KhoImage *backing = image->backing;

        flushed &= close_one(image, first ? error : NULL);
        image = backing;
    }
    return flushed;
}

void
kho_image_free(KhoImage *image)
{
    g_autoptr(GError) error = NULL;
    /* A file without a name goes with its descriptor: that it is not whole has been said already. */
    gboolean matters = image && !image->unpublished;

    if (image && !kho_image_close(image, &error) && matters)
        g_warning("%s", error->message);
}

/* Small holes are everywhere; QEMU too looks for tables that were made beforehand only where a tenth of the
 * file's clusters, and two of them, are missing. In an image with a data file, that is the file of the tables
 * all the same. */
static gboolean
has_file_holes(const KhoImage *image)
{
    guint64 clusters = num_div_up((guint64) image->identity.st_size, image->cluster_bytes);
    guint64 there = (guint64) image->identity.st_blocks * 512 / image->cluster_bytes;

    return clusters >= MAX(there / 9 * 10 + there % 9 * 10 / 9, there + 2);
}

KhoImage *
image_over_store(BlkStore *file, const FormatOps *ops, FormatFlags flags, const char *path, GError **error)
{
    g_autoptr(BlkStore) owned = file;
    g_autoptr(KhoImage) image = g_new0(KhoImage, 1);
    FormatInfo info;
    int fd = blk_fd(file);

    range_lock_init(&image->ranges);
    image->path = g_strdup(path);
    if (fd >= 0 && !fd_stat(fd, &image->identity, path, error))
        return NULL;
    image->format = format_open(ops, file, flags, error);
    if (!image->format)
        return NULL;
    (void) g_steal_pointer(&owned);
    image->writable = (flags & FORMAT_WRITABLE) != 0;
    image->unpublished = (flags & FORMAT_UNPUBLISHED) != 0;
    if (!format_info(image->format, &info, error))
        return NULL;
    image->cluster_bytes = MAX(info.cluster_bytes, 1);
    image->subcluster_bytes = MAX(info.subcluster_bytes, 1);
    image->new_is_noise = ops == &luks_volume_format;
    image->has_data_file = info.has_data_file;
    image->data_is_raw = info.data_file_raw;
    image->data_name = g_steal_pointer(&info.data_file);
    image->has_file_holes = has_file_holes(image);
    format_info_clear(&info);
    return g_steal_pointer(&image);
}

/* Has @name a protocol, as in "nbd://host" or "json:{...}": a colon before the first slash. */
static gboolean
has_protocol(const char *name)
{
    return name[strcspn(name, ":/")] == ':';
}

static char *
named_path(const char *path, const char *name, const char *what, GError **error)
{
    const char *slash = strrchr(path, '/');

    if (blk_nbd_is_name(name))
        return g_strdup(name);
    if (has_protocol(name) || (blk_nbd_is_name(path) && !g_path_is_absolute(name))) {
        g_autofree char *shown = error_one_line(name);
        fail(error, KHO_ERROR_UNSUPPORTED, "%s has the %s '%s', which is not a plain path", path, what,
             shown);
        return NULL;
    }
    if (g_path_is_absolute(name) || !slash)
        return g_strdup(name);
    return g_strdup_printf("%.*s%s", (int) (slash - path + 1), path, name);
}

char *
image_backing_path(const char *path, const char *name, GError **error)
{
    return named_path(path, name, "backing file", error);
}

char *
image_data_path(const char *path, const char *name, GError **error)
{
    return named_path(path, name, "data file", error);
}

gboolean
image_pass_gate(const KhoImageGate *gate, const char *path, const char *referrer, GError **error)
{
    g_autofree char *absolute = blk_nbd_is_name(path) ? g_strdup(path) : g_canonicalize_filename(path, NULL);
    g_autofree char *from =
        blk_nbd_is_name(referrer) ? g_strdup(referrer) : g_canonicalize_filename(referrer, NULL);

    if (!gate)
        return fail(error, KHO_ERROR_DENIED, "%s names %s, and no other file may be opened here", referrer,
                    path);
    return gate->admit(absolute, from, gate->data, error);
}

/* Before the lock: a loop would meet its own lock and call itself busy. */
static gboolean
check_loop(const KhoImage *chain, const char *path, const struct stat *st, GError **error)
{
    const KhoImage *met = chain;

    if (st)
        met = image_find_file(chain, st);
    else
        while (met && !g_str_equal(met->path, path))
            met = met->backing;
    return !met
           || fail(error, KHO_ERROR_INVALID, "the backing chain of %s loops: it comes to %s again",
                   chain->path, path);
}

BlkStore *
image_open_store(const KhoImageSource *source, gboolean writable, GError **error)
{
    if (!blk_nbd_is_name(source->path))
        return blk_file_open(source->path, writable, error);
    if (!(source->flags & KHO_IMAGE_LOCAL))
        return blk_nbd_open(source->path, writable, source->job, error);
    fail(error, KHO_ERROR_UNSUPPORTED, "%s is a server's disk, and a file or device is needed here",
         source->path);
    return NULL;
}

/* One image of a chain: opened, told apart from those above it (@chain, or NULL for the first), locked, and,
 * if it is encrypted, unlocked; and its data file. */
static KhoImage *
open_one(const KhoImageSource *source, KhoImage *chain, GError **error)
{
    gboolean writable = (source->flags & KHO_IMAGE_WRITE) != 0;
    g_autoptr(BlkStore) file = image_open_store(source, writable, error);
    int fd = file ? blk_fd(file) : -1;
    struct stat st;

    if (!file || (fd >= 0 && !fd_stat(fd, &st, source->path, error))
        || !check_loop(chain, source->path, fd >= 0 ? &st : NULL, error))
        return NULL;
    if (!(source->flags & (KHO_IMAGE_NO_LOCK | KHO_IMAGE_IDLE_LOCK))
        && !image_lock(file, writable ? IMAGE_LOCK_WRITE : IMAGE_LOCK_READ, error))
        return NULL;

    FormatFound found;
    if (source->format ? !format_find(source->format, &found, error) : !format_probe(file, &found, error))
        return NULL;
    gboolean is_local = (source->flags & KHO_IMAGE_LOCAL) != 0;
    gboolean is_hidden = is_local && !(source->flags & KHO_IMAGE_VOLUMES) && found.ops == &luks_volume_format;
    /* A guest may encrypt its disk by itself, and finds there what it wrote. */
    if (is_hidden && !source->format) {
        found.ops = &raw_format;
        is_hidden = FALSE;
    }
    if (!found.foreign && !is_hidden) {
        g_autoptr(KhoImage) image = image_over_store(g_steal_pointer(&file), found.ops,
                                                     writable ? FORMAT_WRITABLE : 0, source->path, error);
        if (!image || (!(source->flags & KHO_IMAGE_IDLE_LOCK) && !image_unlock(image, source, error))
            || !image_open_data(image, source, chain, error))
            return NULL;
        return g_steal_pointer(&image);
    }
    if (is_local) {
        fail(error, KHO_ERROR_UNSUPPORTED,
             "%s is a %s image: there are qcow2 and raw here; state the format raw to take its bytes as they "
             "are",
             source->path, found.foreign ? found.foreign : found.ops->name);
        return NULL;
    }
    const ForeignImage how = { .format = found.foreign,
                               .path = source->path,
                               .writable = writable,
                               .flags = source->flags,
                               .gate = source->gate,
                               .job = source->job };
    return image_over_foreign(g_steal_pointer(&file), &how, error);
}

KhoImageSource
image_source_below(const KhoImageSource *source, guint depth, const char *path, const char *format)
{
    guint said = MIN(depth, source->n_below);
    KhoImageSource below = *source;

    below.path = path;
    below.format = format;
    below.flags &= ~(guint) KHO_IMAGE_WRITE;
    below.key_secret = depth == said ? source->below[depth - 1].key_secret : NULL;
    below.below = said > 0 ? source->below + said : NULL;
    below.n_below -= said;
    return below;
}

/* The next image below @above, the last of @chain so far. *below stays NULL at the end of the chain. */
static gboolean
open_next(KhoImage *chain, KhoImage *above, const KhoImageSource *source, GError **error)
{
    const KhoImageBelow nothing = { 0 };
    const KhoImageBelow *said = above->depth < source->n_below ? &source->below[above->depth] : &nothing;
    FormatInfo info;

    if (!format_info(above->format, &info, error))
        return FALSE;
    g_autofree char *name = g_steal_pointer(&info.backing_file);
    g_autofree char *format = g_steal_pointer(&info.backing_format);
    format_info_clear(&info);
    if (!name && !said->path)
        return said == &nothing
               || fail(error, KHO_ERROR_INVALID, "%s has no backing file that options could be for",
                       above->path);
    if (above->depth + 1 >= IMAGE_CHAIN_MAX)
        return fail(error, KHO_ERROR_UNSUPPORTED, "the backing chain of %s is longer than %d images",
                    chain->path, IMAGE_CHAIN_MAX);

    g_autofree char *path = said->path ? g_strdup(said->path) : image_backing_path(above->path, name, error);
    g_autoptr(GError) cause = NULL;
    if (!path || !image_pass_gate(source->gate, path, above->path, error))
        return FALSE;
    const KhoImageSource below =
        image_source_below(source, above->depth + 1, path, said->format ? said->format : format);
    above->backing = open_one(&below, chain, &cause);
    if (!above->backing && cause->code == KHO_ERROR_NOT_FOUND && !blk_nbd_is_name(path)
        && !g_file_test(path, G_FILE_TEST_EXISTS))
        return fail(error, KHO_ERROR_NOT_FOUND, "%s: its backing file %s does not exist", above->path, path);
    if (!above->backing) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return FALSE;
    }
    above->backing->depth = above->depth + 1;
    above->format->backing_bytes = above->backing->format->guest_bytes;
    return TRUE;
}

gboolean
image_open_backing(KhoImage *image, const KhoImageSource *source, GError **error)
{
    for (KhoImage *last = image; last; last = last->backing)
        if (!open_next(image, last, source, error))
            return FALSE;
    return TRUE;
}

KhoImage *
kho_image_open_source(const KhoImageSource *source, GError **error)
{
    g_autoptr(KhoImage) image = open_one(source, NULL, error);

    if (!image || (!(source->flags & KHO_IMAGE_NO_BACKING) && !image_open_backing(image, source, error)))
        return NULL;
    return g_steal_pointer(&image);
}

KhoImage *
kho_image_open(const char *path, const char *format, KhoImageFlags flags, const KhoImageGate *gate,
               GError **error)
{
    KhoImageSource source = { .path = path, .format = format, .flags = flags, .gate = gate };

    return kho_image_open_source(&source, error);
}

gboolean
image_close_after(KhoImage *image, gboolean done, GError **error)
{
    return kho_image_close(image, done ? error : NULL) && done;
}

gboolean
image_takes_writes(KhoImage *image, GError **error)
{
    FormatInfo info;

    if (!format_info(image->format, &info, error))
        return FALSE;
    g_autofree char *refusal = g_steal_pointer(&info.refusal);
    format_info_clear(&info);
    return !refusal || fail(error, KHO_ERROR_UNSUPPORTED, "%s", refusal);
}

void
image_only_looks(KhoImage *image, const KhoImagePlan *plan)
{
    if (plan)
        image->format->only_looks = TRUE;
}

guint64
kho_image_size_bytes(const KhoImage *image)
{
    return image->format->guest_bytes;
}

const char *
kho_image_format(const KhoImage *image)
{
    return image->foreign_format ? image->foreign_format : image->format->ops->name;
}

const char *
kho_image_path(const KhoImage *image)
{
    return image->path;
}

const char *
kho_image_data_path(const KhoImage *image)
{
    return image->data_path;
}

KhoImage *
kho_image_backing(const KhoImage *image)
{
    return image->backing;
}
