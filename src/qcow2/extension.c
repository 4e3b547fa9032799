#include "qcow2/extension.h"

#include "base/error.h"

#include <string.h>

#define FEATURE_ROW_BYTES  48 /* kind, bit, 46 bytes of name */
#define FEATURE_NAME_BYTES 46

static const struct {
    guint8 kind, bit;
    const char *name;
} feature_names[] = {
    { 0, 0, "dirty bit" },        { 0, 1, "corrupt bit" },         { 0, 2, "external data file" },
    { 0, 3, "compression type" }, { 0, 4, "extended L2 entries" }, { 1, 0, "lazy refcounts" },
    { 2, 0, "bitmaps" },          { 2, 1, "raw external data" },
};

typedef struct {
    const guint8 *buf;
    guint64 at, end; /* at <= end <= length of buf */
} Walk;

/* The next extension, or FALSE at the end. Sets *broken where a record reaches past the end. */
static gboolean
walk_next(Walk *walk, Qcow2ExtensionPlace *place, gboolean *broken)
{
    if (walk->end - walk->at < 8)
        return FALSE;
    *place = (Qcow2ExtensionPlace){
        .type = be32_load(walk->buf + walk->at),
        .off_bytes = (guint32) walk->at + 8,
        .len_bytes = be32_load(walk->buf + walk->at + 4),
    };
    guint64 room = walk->end - walk->at - 8;
    if (place->len_bytes > room) { /* QEMU refuses that of the last one, too */
        *broken = TRUE;
        return FALSE;
    }
    if (place->type == QCOW2_EXT_END)
        return FALSE;
    walk->at += 8 + MIN(num_align_up(place->len_bytes, 8), room);
    return TRUE;
}

static gboolean
broken_extension(const Qcow2ExtensionPlace *place, const char *what, GError **error)
{
    return fail(error, KHO_ERROR_CORRUPT, "bad qcow2 header: extension 0x%08x at byte %u (%u bytes) %s",
                place->type, place->off_bytes - 8, place->len_bytes, what);
}

static gboolean
take_text(const guint8 *data, const Qcow2ExtensionPlace *place, char **text, GError **error)
{
    if (place->len_bytes > QCOW2_BACKING_BYTES)
        return broken_extension(place, "is longer than a name may be", error);
    *text = g_strndup((const char *) data, place->len_bytes);
    return TRUE;
}

static gboolean
take_bitmaps(const guint8 *data, const Qcow2ExtensionPlace *place, Qcow2Extensions *e, GError **error)
{
    if (place->len_bytes != 24)
        return broken_extension(place, "is not 24 bytes long", error);
    e->has_bitmaps = TRUE;
    e->bitmaps = be32_load(data);
    e->bitmaps_reserved = be32_load(data + 4);
    e->bitmap_directory_bytes = be64_load(data + 8);
    e->bitmap_directory_off = be64_load(data + 16);
    return TRUE;
}

static gboolean
take_luks(const guint8 *data, const Qcow2ExtensionPlace *place, Qcow2Extensions *e, GError **error)
{
    if (place->len_bytes != 16)
        return broken_extension(place, "is not 16 bytes long", error);
    e->luks_off = be64_load(data);
    e->luks_bytes = be64_load(data + 8);
    return e->luks_bytes > 0 || broken_extension(place, "says that the LUKS header has no bytes", error);
}

static gboolean
take(const guint8 *cluster, const Qcow2ExtensionPlace *place, Qcow2Extensions *e, GError **error)
{
    const guint8 *data = cluster + place->off_bytes;

    for (guint i = 0; i < e->places->len; i++)
        if (g_array_index(e->places, Qcow2ExtensionPlace, i).type == place->type)
            return broken_extension(place, "comes twice", error);
    g_array_append_vals(e->places, place, 1);
    switch (place->type) {
    case (guint32) QCOW2_EXT_BACKING_FORMAT: return take_text(data, place, &e->backing_format, error);
    case QCOW2_EXT_DATA_FILE: return take_text(data, place, &e->data_file, error);
    case QCOW2_EXT_BITMAPS: return take_bitmaps(data, place, e, error);
    case QCOW2_EXT_LUKS: return take_luks(data, place, e, error);
    default: return TRUE;
    }
}

/* The cipher's header and the method that needs it come together or not at all. */
static gboolean
check_luks(const Qcow2Header *header, const Qcow2Extensions *e, GError **error)
{
    gboolean is_luks = header->crypt_method == QCOW2_CRYPT_LUKS;

    if (is_luks != (e->luks_bytes > 0))
        return fail(error, KHO_ERROR_CORRUPT, "bad qcow2 header: crypt_method is %u, and %s",
                    header->crypt_method,
                    is_luks ? "the extension that says where the LUKS header lies is missing"
                            : "there is an extension for a LUKS header, which belongs to 2");
    if (e->luks_bytes > QCOW2_LUKS_BYTES_MAX)
        return fail(error, KHO_ERROR_CORRUPT,
                    "bad qcow2 header: the LUKS header has %" G_GUINT64_FORMAT " bytes, too many",
                    e->luks_bytes);
    if (e->luks_off & ((1u << header->cluster_bits) - 1))
        return fail(error, KHO_ERROR_CORRUPT,
                    "bad qcow2 header: the LUKS header at byte %" G_GUINT64_FORMAT
                    " does not begin at a cluster",
                    e->luks_off);
    return TRUE;
}

static gboolean
bad_bitmaps(GError **error, const char *field, guint64 value)
{
    return fail(error, KHO_ERROR_CORRUPT, "bad qcow2 header: bitmaps extension: %s is %" G_GUINT64_FORMAT,
                field, value);
}

/* Without its autoclear bit the extension is stale: whoever wrote last did not know of it. */
static gboolean
check_bitmaps(const Qcow2Header *header, const Qcow2Extensions *e, GError **error)
{
    if (!e->has_bitmaps || !(header->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
        return TRUE;
    if (e->bitmaps == 0 || e->bitmaps > QCOW2_BITMAPS_MAX)
        return bad_bitmaps(error, "the number of bitmaps", e->bitmaps);
    if (e->bitmaps_reserved != 0)
        return bad_bitmaps(error, "the reserved field", e->bitmaps_reserved);
    if (e->bitmap_directory_off & ((1u << header->cluster_bits) - 1))
        return bad_bitmaps(error, "the directory's offset", e->bitmap_directory_off);
    if (e->bitmap_directory_bytes == 0 || e->bitmap_directory_bytes > QCOW2_BITMAP_DIRECTORY_BYTES_MAX)
        return bad_bitmaps(error, "the directory's length", e->bitmap_directory_bytes);
    return TRUE;
}

gboolean
qcow2_extensions_decode(const guint8 *cluster, gsize len, const Qcow2Header *header,
                        Qcow2Extensions *extensions, GError **error)
{
    g_auto(Qcow2Extensions) e = { .places = g_array_new(FALSE, FALSE, sizeof(Qcow2ExtensionPlace)) };
    guint64 end = header->backing_off != 0 ? MIN(header->backing_off, len) : len;
    Walk walk = { .buf = cluster, .at = MIN(header->header_bytes, end), .end = end };
    Qcow2ExtensionPlace place;
    gboolean broken = FALSE;

    while (walk_next(&walk, &place, &broken))
        if (!take(cluster, &place, &e, error))
            return FALSE;
    if (broken)
        return broken_extension(&place, "reaches past its room", error);
    if (!check_luks(header, &e, error) || !check_bitmaps(header, &e, error))
        return FALSE;
    if (header->backing_off != 0 && header->backing_bytes > 0) {
        if (header->backing_off + header->backing_bytes > len)
            return fail(error, KHO_ERROR_CORRUPT,
                        "bad qcow2 header: the backing file's name ends past the header");
        e.backing_file = g_strndup((const char *) cluster + header->backing_off, header->backing_bytes);
    }
    *extensions = e;
    e = (Qcow2Extensions){ 0 };
    return TRUE;
}

void
qcow2_extensions_clear(Qcow2Extensions *extensions)
{
    g_free(extensions->backing_file);
    g_free(extensions->backing_format);
    g_free(extensions->data_file);
    g_clear_pointer(&extensions->places, g_array_unref);
    *extensions = (Qcow2Extensions){ 0 };
}

void
qcow2_extension_append(GByteArray *to, guint32 type, const void *data, gsize len)
{
    static const guint8 zeros[8];
    guint8 head[8];

    be32_store(head, type);
    be32_store(head + 4, (guint32) len);
    g_byte_array_append(to, head, sizeof head);
    g_byte_array_append(to, data, (guint) len);
    g_byte_array_append(to, zeros, (guint) (num_align_up(len, 8) - len));
}

void
qcow2_extension_append_feature_names(GByteArray *to)
{
    guint8 rows[G_N_ELEMENTS(feature_names)][FEATURE_ROW_BYTES] = { 0 };

    for (gsize i = 0; i < G_N_ELEMENTS(feature_names); i++) {
        rows[i][0] = feature_names[i].kind;
        rows[i][1] = feature_names[i].bit;
        memcpy(rows[i] + 2, feature_names[i].name, strlen(feature_names[i].name));
    }
    qcow2_extension_append(to, QCOW2_EXT_FEATURE_NAMES, rows, sizeof rows);
}

char *
qcow2_feature_name(const guint8 *buf, gsize len, guint64 header_bytes, guint kind, guint bit)
{
    Walk walk = { .buf = buf, .at = MIN(header_bytes, len), .end = len };
    Qcow2ExtensionPlace place;
    gboolean broken = FALSE;

    while (walk_next(&walk, &place, &broken)) {
        if (place.type != QCOW2_EXT_FEATURE_NAMES)
            continue;
        for (guint32 at = 0; at + FEATURE_ROW_BYTES <= place.len_bytes; at += FEATURE_ROW_BYTES) {
            const guint8 *row = buf + place.off_bytes + at;
            if (row[0] != kind || row[1] != bit)
                continue;
            g_autofree char *name = g_strndup((const char *) row + 2, FEATURE_NAME_BYTES);
            return g_utf8_validate(name, -1, NULL) ? error_one_line(name) : NULL;
        }
    }
    return NULL;
}
