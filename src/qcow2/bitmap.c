#include "qcow2/bitmap.h"

#include "base/error.h"

#include <string.h>

void
qcow2_bitmap_free(Qcow2Bitmap *bitmap)
{
    g_free(bitmap->name);
    g_free(bitmap);
}

/* What an entry says of its kind; the fixed part is there. */
static const char *
judge_kind(const guint8 *entry)
{
    if (be32_load(entry + 12) & ~(guint32) QCOW2_BITMAP_FLAGS)
        return "has flags that kho does not know";
    if (entry[16] != QCOW2_BITMAP_TYPE_DIRTY)
        return "is of a type that kho does not know";
    if (entry[17] < QCOW2_BITMAP_GRANULARITY_MIN || entry[17] > QCOW2_BITMAP_GRANULARITY_MAX)
        return "has a granularity that neither QEMU nor kho knows";
    if (be32_load(entry + 20) != 0)
        return "has extra data that kho does not know";
    return NULL;
}

/* What is wrong with where its contents lie. */
static const char *
judge_table(const Qcow2Bitmap *b, const Qcow2Header *header)
{
    Qcow2Geometry geo;

    qcow2_header_derive(header, &geo);
    if (b->table_off == 0 || b->table_off % geo.cluster_bytes != 0 || b->table_off >= QCOW2_HOST_BYTES_MAX)
        return "has its table at an offset that is out of range";
    if (b->table_entries == 0 || b->table_entries > QCOW2_BITMAP_BYTES_MAX >> geo.cluster_bits)
        return "has a table of a length that is out of range";
    /* One that was in use is as it was: the disk may have another size by now. */
    if (qcow2_bitmap_is_sound(b)
        && b->table_entries != qcow2_bitmap_table_entries(&geo, header->guest_bytes, b->granularity_bits))
        return "has a table that does not fit the disk's size";
    return NULL;
}

static gboolean
corrupt(GError **error, guint32 index, const char *what)
{
    return fail(error, KHO_ERROR_CORRUPT, "bitmap %u of the directory %s", index, what);
}

/* The entry at @at; *bitmap is the caller's. */
static gboolean
decode_entry(const guint8 *directory, gsize len, gsize at, guint32 index, Qcow2Bitmap **bitmap,
             GError **error)
{
    const guint8 *entry = directory + at;
    gsize room = len - at;

    if (room < QCOW2_BITMAP_HEAD_BYTES)
        return corrupt(error, index, "is missing: the directory ends before it");
    guint64 name_bytes = be16_load(entry + 18), extra_bytes = be32_load(entry + 20);
    guint64 bytes = num_align_up(QCOW2_BITMAP_HEAD_BYTES + extra_bytes + name_bytes, 8);
    const guint8 *name = entry + QCOW2_BITMAP_HEAD_BYTES + extra_bytes;
    if (bytes > room)
        return corrupt(error, index, "reaches past the directory's end");
    if (name_bytes == 0 || name_bytes > QCOW2_BITMAP_NAME_BYTES_MAX || memchr(name, 0, name_bytes))
        return corrupt(error, index, "has a name of a wrong length, or with a NUL in it");
    *bitmap = g_new0(Qcow2Bitmap, 1);
    **bitmap = (Qcow2Bitmap){ .name = g_strndup((const char *) name, name_bytes),
                              .table_off = be64_load(entry),
                              .table_entries = be32_load(entry + 8),
                              .flags = be32_load(entry + 12),
                              .granularity_bits = entry[17],
                              .unusable = judge_kind(entry),
                              .entry_off = at,
                              .entry_bytes = (guint32) bytes };
    return TRUE;
}

GPtrArray *
qcow2_bitmaps_decode(const guint8 *directory, gsize len, guint32 n, const Qcow2Header *header, GError **error)
{
    g_autoptr(GPtrArray) bitmaps = g_ptr_array_new_with_free_func((GDestroyNotify) qcow2_bitmap_free);
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    gsize at = 0;

    for (guint32 i = 0; i < n; i++) {
        Qcow2Bitmap *b = NULL;
        if (!decode_entry(directory, len, at, i, &b, error))
            return NULL;
        g_ptr_array_add(bitmaps, b);
        const char *wrong = judge_table(b, header);
        if (!wrong && !g_hash_table_add(names, b->name))
            wrong = "has the name of another one";
        if (wrong) {
            corrupt(error, i, wrong);
            return NULL;
        }
        at += b->entry_bytes;
    }
    if (at != len) {
        fail(error, KHO_ERROR_CORRUPT,
             "the bitmap directory has %" G_GSIZE_FORMAT " bytes, its bitmaps take %" G_GSIZE_FORMAT, len,
             at);
        return NULL;
    }
    return g_steal_pointer(&bitmaps);
}

void
qcow2_bitmap_encode(Qcow2Bitmap *bitmap, GByteArray *directory)
{
    static const guint8 zeros[8];
    guint8 head[QCOW2_BITMAP_HEAD_BYTES] = { 0 };
    gsize name_bytes = strlen(bitmap->name);

    be64_store(head, bitmap->table_off);
    be32_store(head + 8, bitmap->table_entries);
    be32_store(head + 12, bitmap->flags);
    head[16] = QCOW2_BITMAP_TYPE_DIRTY;
    head[17] = (guint8) bitmap->granularity_bits;
    be16_store(head + 18, (guint16) name_bytes);
    bitmap->entry_off = directory->len;
    bitmap->entry_bytes = (guint32) num_align_up(sizeof head + name_bytes, 8);
    g_byte_array_append(directory, head, sizeof head);
    g_byte_array_append(directory, (const guint8 *) bitmap->name, (guint) name_bytes);
    g_byte_array_append(directory, zeros, (guint) (bitmap->entry_bytes - sizeof head - name_bytes));
}

Qcow2Bitmap *
qcow2_bitmaps_find(const GPtrArray *bitmaps, const char *name)
{
    for (guint i = 0; i < bitmaps->len; i++) {
        Qcow2Bitmap *b = bitmaps->pdata[i];
        if (g_str_equal(b->name, name))
            return b;
    }
    return NULL;
}
