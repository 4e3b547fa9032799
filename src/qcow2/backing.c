#include "qcow2/backing.h"

#include "base/error.h"
#include "qcow2/entry.h"
#include "qcow2/flush.h"

#include <string.h>

#define BITMAPS_BYTES 24

/* What the new header shall say, and how it may be laid out. */
typedef struct {
    const Qcow2Header *to;     /* all fields but those of the backing file's name */
    const char *file, *format; /* NULL: none */
    const char *data_file;     /* its name; "": none; NULL: as it is */
    gboolean sets_bitmaps;     /* the extension for bitmaps is @bitmaps; else as it is, unless stale */
    const guint8 *bitmaps;     /* its BITMAPS_BYTES; NULL: none */
    gboolean keep_features;    /* the table of feature names */
    gboolean name_apart;       /* the name lies behind all that the old header uses */
} Wish;

/* A header cluster as it would be. */
typedef struct {
    Qcow2Header header;
    guint8 *cluster; /* owned; the bytes that nothing uses are those of the old one */
    guint64 end;     /* of what it uses */
} Layout;

static void
layout_clear(Layout *layout)
{
    g_free(layout->cluster);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Layout, layout_clear)

/* Where the old extensions end, with the record that ends them. */
static guint64
extensions_end(const Qcow2Image *image)
{
    const GArray *places = image->extensions.places;
    guint64 end = image->header.header_bytes;

    if (places->len > 0) {
        const Qcow2ExtensionPlace *last = &g_array_index(places, Qcow2ExtensionPlace, places->len - 1);
        end = num_align_up((guint64) last->off_bytes + last->len_bytes, 8);
    }
    return MIN(end + 8, image->geo.cluster_bytes);
}

static guint64
name_end(const Qcow2Header *header)
{
    return header->backing_off == 0 ? 0 : header->backing_off + header->backing_bytes;
}

/* Is the old extension for bitmaps left out? What no autoclear bit vouches for is nobody's. */
static gboolean
drops_bitmaps(const Wish *wish)
{
    return wish->sets_bitmaps || !(wish->to->autoclear & QCOW2_AUTOCLEAR_BITMAPS);
}

/* All extensions as they shall be: each in its turn, the format in the place of the old one or last; bitmaps
 * that are set come first, where they lie within a sector. */
static GByteArray *
extensions_with(const Qcow2Image *image, const Wish *wish)
{
    GByteArray *bytes = g_byte_array_new();
    const GArray *places = image->extensions.places;
    gboolean has_format = wish->format == NULL;

    if (wish->bitmaps)
        qcow2_extension_append(bytes, QCOW2_EXT_BITMAPS, wish->bitmaps, BITMAPS_BYTES);
    for (guint i = 0; i < places->len; i++) {
        const Qcow2ExtensionPlace *p = &g_array_index(places, Qcow2ExtensionPlace, i);
        if (p->type == QCOW2_EXT_FEATURE_NAMES && (!wish->keep_features || wish->to->version < 3))
            continue;
        if (p->type == QCOW2_EXT_BITMAPS && drops_bitmaps(wish))
            continue;
        if (p->type == QCOW2_EXT_DATA_FILE && wish->data_file)
            continue;
        if (p->type != (guint32) QCOW2_EXT_BACKING_FORMAT)
            qcow2_extension_append(bytes, p->type, image->head + p->off_bytes, p->len_bytes);
        else if (!has_format)
            qcow2_extension_append(bytes, p->type, wish->format, strlen(wish->format));
        has_format = has_format || p->type == (guint32) QCOW2_EXT_BACKING_FORMAT;
    }
    if (!has_format)
        qcow2_extension_append(bytes, (guint32) QCOW2_EXT_BACKING_FORMAT, wish->format, strlen(wish->format));
    if (wish->data_file && *wish->data_file)
        qcow2_extension_append(bytes, QCOW2_EXT_DATA_FILE, wish->data_file, strlen(wish->data_file));
    qcow2_extension_append(bytes, QCOW2_EXT_END, NULL, 0);
    return bytes;
}

/* FALSE where it does not fit in the cluster. */
static gboolean
lay_out(const Qcow2Image *image, const Wish *wish, Layout *layout)
{
    g_autoptr(GByteArray) extensions = extensions_with(image, wish);
    guint64 used = MAX(extensions_end(image), name_end(&image->header));
    guint64 fields_end = wish->to->header_bytes;
    guint64 name_off = fields_end + extensions->len;
    gsize name_bytes = wish->file ? strlen(wish->file) : 0;

    if (wish->name_apart)
        name_off = MAX(name_off, num_align_up(used, 8));
    if (name_off > image->geo.cluster_bytes || name_bytes > image->geo.cluster_bytes - name_off)
        return FALSE;
    layout->header = *wish->to;
    layout->header.backing_off = wish->file ? name_off : 0;
    layout->header.backing_bytes = (guint32) name_bytes;
    layout->end = MAX(fields_end + extensions->len, name_end(&layout->header));
    layout->cluster = g_memdup2(image->head, image->geo.cluster_bytes);
    /* Fields that there were not. */
    if (fields_end > image->header.header_bytes)
        memset(layout->cluster + image->header.header_bytes, 0, fields_end - image->header.header_bytes);
    memcpy(layout->cluster + fields_end, extensions->data, extensions->len);
    if (name_bytes > 0)
        memcpy(layout->cluster + name_off, wish->file, name_bytes);
    qcow2_header_encode(&layout->header, layout->cluster, image->geo.cluster_bytes);
    return TRUE;
}

/* Do the later sectors leave what the old header uses of them as it is? Until the first sector is written
 * they belong to it. */
static gboolean
spares_the_old(const Qcow2Image *image, const Layout *layout)
{
    guint64 end = extensions_end(image);

    for (guint64 i = QCOW2_SECTOR_BYTES; i < layout->end; i++) {
        gboolean used = i < end || (i >= image->header.backing_off && i < name_end(&image->header));
        if (used && layout->cluster[i] != image->head[i])
            return FALSE;
    }
    return TRUE;
}

static gboolean
find_layout(const Qcow2Image *image, const Wish *all, Layout *layout, GError **error)
{
    gboolean fits = FALSE;

    for (guint try = 0; try < 4; try++) {
        Wish wish = *all;
        wish.keep_features = try < 2;
        wish.name_apart = try % 2 == 1;
        g_auto(Layout) found = { .cluster = NULL };

        if (!lay_out(image, &wish, &found))
            continue;
        fits = TRUE;
        if (!spares_the_old(image, &found))
            continue;
        *layout = found;
        found.cluster = NULL;
        return TRUE;
    }
    if (all->sets_bitmaps)
        return fail(
            error, KHO_ERROR_UNSUPPORTED,
            "%s: the header has no room for bitmaps beside its extensions and the backing file's name",
            image->base.file->label);
    return fits ? fail(error, KHO_ERROR_UNSUPPORTED,
                       "%s: the header has no room for another backing file's name beside its extensions",
                       image->base.file->label)
                : fail(error, KHO_ERROR_INVALID,
                       "%s: the backing file's name of %" G_GSIZE_FORMAT
                       " bytes does not fit in its header's cluster of %" G_GUINT64_FORMAT " bytes",
                       image->base.file->label, all->file ? strlen(all->file) : 0, image->geo.cluster_bytes);
}

/* The sectors behind the first one, as far as they change. */
static gboolean
write_tail(Qcow2Image *image, const Layout *layout, GError **error)
{
    guint64 end = MIN(num_align_up(layout->end, QCOW2_SECTOR_BYTES), image->geo.cluster_bytes);
    guint64 from = QCOW2_SECTOR_BYTES;

    if (end <= from || memcmp(layout->cluster + from, image->head + from, end - from) == 0)
        return TRUE;
    return blk_pwrite(image->base.file, from, layout->cluster + from, end - from, error);
}

static gboolean
write_layout(Qcow2Image *image, Layout *layout, GError **error)
{
    g_auto(Qcow2Extensions) extensions = { 0 };

    if (!qcow2_extensions_decode(layout->cluster, image->geo.cluster_bytes, &layout->header, &extensions,
                                 error)
        || !write_tail(image, layout, error) || !qcow2_flush_locked(image, FALSE, error))
        return FALSE;
    /* The flush may have marked the image dirty. */
    if (layout->header.version >= 3)
        layout->header.incompat |= image->header.incompat & QCOW2_INCOMPAT_DIRTY;
    qcow2_header_encode(&layout->header, layout->cluster, image->geo.cluster_bytes);
    if (!qcow2_barrier(image, QCOW2_RULE_DATA_BEFORE_BACKING | QCOW2_RULE_NAME_BEFORE_POINTER, error))
        return FALSE;
    if (!blk_pwrite(image->base.file, 0, layout->cluster, QCOW2_SECTOR_BYTES, error)) {
        image->broken = TRUE; /* nobody can say which file it names now */
        return FALSE;
    }
    qcow2_extensions_clear(&image->extensions);
    image->extensions = extensions;
    extensions = (Qcow2Extensions){ 0 };
    image->header = layout->header;
    g_free(image->head);
    image->head = g_steal_pointer(&layout->cluster);
    return TRUE;
}

gboolean
qcow2_set_backing(FormatImage *format, const char *file, const char *file_format, gboolean only_check,
                  GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
    g_auto(Layout) layout = { .cluster = NULL };

    if (image->broken || image->refusal)
        return fail(error, KHO_ERROR_CORRUPT, "%s takes no writes: %s", format->file->label,
                    image->refusal ? image->refusal : "an earlier flush failed");
    if (file && qcow2_data_is_raw(image))
        return fail(error, KHO_ERROR_INVALID,
                    "%s cannot have a backing file: its data file reads like the disk by itself "
                    "(data_file_raw)",
                    image->base.file->label);
    if (file && strlen(file) > QCOW2_BACKING_BYTES)
        return fail(error, KHO_ERROR_INVALID,
                    "the backing file's name is %" G_GSIZE_FORMAT " bytes long: at most %u fit", strlen(file),
                    QCOW2_BACKING_BYTES);
    const Wish wish = { .to = &image->header, .file = file, .format = file_format };
    if (!find_layout(image, &wish, &layout, error))
        return FALSE;
    return only_check
           || (write_layout(image, &layout, error) && qcow2_barrier(image, QCOW2_RULE_NONE, error));
}

static gboolean
change_locked(Qcow2Image *image, const Qcow2Header *to, const char *data_file, gboolean only_check,
              GError **error)
{
    const Qcow2Extensions *now = &image->extensions;
    const Wish wish = {
        .to = to, .file = now->backing_file, .format = now->backing_format, .data_file = data_file
    };
    g_auto(Layout) layout = { .cluster = NULL };

    if (!find_layout(image, &wish, &layout, error))
        return FALSE;
    return only_check
           || (write_layout(image, &layout, error) && qcow2_barrier(image, QCOW2_RULE_NONE, error));
}

gboolean
qcow2_header_change_locked(Qcow2Image *image, const Qcow2Header *to, gboolean only_check, GError **error)
{
    return change_locked(image, to, NULL, only_check, error);
}

gboolean
qcow2_header_set_data_file_locked(Qcow2Image *image, const char *name, gboolean only_check, GError **error)
{
    if (!qcow2_has_data_file(&image->header))
        return fail(error, KHO_ERROR_INVALID, "%s has no data file that could have another name",
                    image->base.file->label);
    return change_locked(image, &image->header, name, only_check, error);
}

/* Where the extension stands that can be written over: one that is valid and lies within a sector. */
static const Qcow2ExtensionPlace *
find_bitmaps(const Qcow2Image *image)
{
    const GArray *places = image->extensions.places;

    if (!(image->header.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
        return NULL;
    for (guint i = 0; i < places->len; i++) {
        const Qcow2ExtensionPlace *p = &g_array_index(places, Qcow2ExtensionPlace, i);
        guint64 first = p->off_bytes / QCOW2_SECTOR_BYTES;
        if (p->type == QCOW2_EXT_BITMAPS && (p->off_bytes + BITMAPS_BYTES - 1) / QCOW2_SECTOR_BYTES == first)
            return p;
    }
    return NULL;
}

static gboolean
write_over(Qcow2Image *image, const Qcow2ExtensionPlace *place, const Qcow2BitmapsPlace *to,
           const guint8 *data, GError **error)
{
    if (!blk_pwrite(image->base.file, place->off_bytes, data, BITMAPS_BYTES, error)) {
        image->broken = TRUE; /* nobody can say which directory it names now */
        return FALSE;
    }
    memcpy(image->head + place->off_bytes, data, BITMAPS_BYTES);
    image->extensions.bitmaps = to->bitmaps;
    image->extensions.bitmap_directory_off = to->off;
    image->extensions.bitmap_directory_bytes = to->bytes;
    return TRUE;
}

gboolean
qcow2_header_set_bitmaps_locked(Qcow2Image *image, const Qcow2BitmapsPlace *to, GError **error)
{
    const Qcow2ExtensionPlace *place = to ? find_bitmaps(image) : NULL;
    Qcow2Header header = image->header;
    Wish wish = { .to = &header,
                  .file = image->extensions.backing_file,
                  .format = image->extensions.backing_format,
                  .sets_bitmaps = TRUE };
    g_auto(Layout) layout = { .cluster = NULL };
    guint8 data[BITMAPS_BYTES] = { 0 };

    header.autoclear &= ~(guint64) QCOW2_AUTOCLEAR_BITMAPS;
    if (to) {
        be32_store(data, to->bitmaps);
        be64_store(data + 8, to->bytes);
        be64_store(data + 16, to->off);
        wish.bitmaps = data;
        header.autoclear |= QCOW2_AUTOCLEAR_BITMAPS;
    }
    if (place)
        return write_over(image, place, to, data, error);
    return find_layout(image, &wish, &layout, error) && write_layout(image, &layout, error);
}
