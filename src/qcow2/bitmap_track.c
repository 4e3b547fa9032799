#include "qcow2/bitmap_track.h"

#include "base/error.h"
#include "qcow2/bitmap_table.h"
#include "qcow2/flush.h"

/* Memory for what was written and not yet stored, before an operation; and chunks that one adds at most. */
#define SET_BYTES_MAX    (8 * MIB)
#define OPERATION_CHUNKS (G_GUINT64_CONSTANT(1) << 14) /* 5 MiB */

#define CURE "remove it (kho img bitmap --remove %s NAME)"

static Qcow2Bitmap *
nth(const Qcow2Bitmaps *bitmaps, guint i)
{
    return bitmaps->list->pdata[i];
}

/* Does it follow what the guest writes? */
static gboolean
is_tracked(const Qcow2Bitmap *b)
{
    return (b->flags & QCOW2_BITMAP_AUTO) && qcow2_bitmap_is_sound(b);
}

/* --- loading --- */

Qcow2Bitmaps *
qcow2_bitmaps_new(GPtrArray *list)
{
    Qcow2Bitmaps *bitmaps = g_new0(Qcow2Bitmaps, 1);

    bitmaps->list = list;
    bitmaps->shortest_bytes = G_MAXUINT64;
    return bitmaps;
}

void
qcow2_bitmaps_free(Qcow2Bitmaps *bitmaps)
{
    if (!bitmaps)
        return;
    g_ptr_array_unref(bitmaps->list);
    qcow2_dirty_set_free(bitmaps->set);
    g_free(bitmaps);
}

gboolean
qcow2_bitmaps_load_locked(Qcow2Image *image, GError **error)
{
    const Qcow2Extensions *e = &image->extensions;
    const char *label = image->base.file->label;
    gboolean within;

    if (image->bitmaps || !qcow2_has_bitmaps(image))
        return TRUE;
    if (e->bitmap_directory_bytes > QCOW2_BITMAP_DIRECTORY_LOADED_MAX)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "%s: its bitmap directory of %" G_GUINT64_FORMAT " bytes is larger than kho reads", label,
                    e->bitmap_directory_bytes);
    if (!qcow2_within_file_locked(image, e->bitmap_directory_off + e->bitmap_directory_bytes - 1, &within,
                                  error))
        return FALSE;
    if (!within)
        return fail(error, KHO_ERROR_CORRUPT, "%s: its bitmap directory lies past the end of the file",
                    label);
    g_autofree guint8 *directory = g_malloc(e->bitmap_directory_bytes);
    if (!blk_pread(image->base.file, e->bitmap_directory_off, directory, e->bitmap_directory_bytes, error))
        return FALSE;
    GPtrArray *list =
        qcow2_bitmaps_decode(directory, e->bitmap_directory_bytes, e->bitmaps, &image->header, error);
    if (!list) {
        g_prefix_error(error, "%s: ", label);
        return FALSE;
    }
    image->bitmaps = qcow2_bitmaps_new(list);
    return TRUE;
}

gboolean
qcow2_bitmaps_guard_locked(Qcow2Image *image, GError **error)
{
    const Qcow2Extensions *e = &image->extensions;

    if (!qcow2_bitmaps_load_locked(image, error))
        return FALSE;
    if (!image->bitmaps || !qcow2_has_bitmaps(image))
        return TRUE;
    if (!qcow2_guard_mark(&image->guard, e->bitmap_directory_off >> image->geo.cluster_bits,
                          num_div_up(e->bitmap_directory_bytes, image->geo.cluster_bytes)))
        return qcow2_corrupt_locked(image, error, "the bitmap directory lies where other metadata is");
    for (guint i = 0; i < image->bitmaps->list->len; i++)
        if (!qcow2_bitmap_guard_locked(image, nth(image->bitmaps, i), error))
            return FALSE;
    return TRUE;
}

/* The first one that would go stale: enabled, and not to be understood. */
static const Qcow2Bitmap *
find_foreign(const Qcow2Bitmaps *bitmaps)
{
    for (guint i = 0; bitmaps && i < bitmaps->list->len; i++) {
        const Qcow2Bitmap *b = nth(bitmaps, i);
        if (b->unusable && (b->flags & QCOW2_BITMAP_AUTO) && !(b->flags & QCOW2_BITMAP_IN_USE))
            return b;
    }
    return NULL;
}

char *
qcow2_bitmaps_refusal_locked(Qcow2Image *image)
{
    g_autoptr(GError) error = NULL;
    const char *label = image->base.file->label;

    if (!qcow2_bitmaps_load_locked(image, &error))
        return g_strdup(error->message);
    const Qcow2Bitmap *b = find_foreign(image->bitmaps);
    if (!b)
        return NULL;
    g_autofree char *name = error_one_line(b->name);
    return g_strdup_printf("%s: its bitmap '%s' %s, and would not tell what is written: " CURE, label, name,
                           b->unusable, label);
}

/* --- in use --- */

gboolean
qcow2_bitmap_write_flags_locked(Qcow2Image *image, const Qcow2Bitmap *bitmap, GError **error)
{
    guint64 at = image->extensions.bitmap_directory_off + bitmap->entry_off + 8;
    guint8 word[8];

    be32_store(word, bitmap->table_entries);
    be32_store(word + 4, bitmap->flags);
    return blk_pwrite(image->base.file, at, word, sizeof word, error);
}

static gboolean
write_table_off(Qcow2Image *image, const Qcow2Bitmap *bitmap, GError **error)
{
    guint8 word[8];

    be64_store(word, bitmap->table_off);
    return blk_pwrite(image->base.file, image->extensions.bitmap_directory_off + bitmap->entry_off, word,
                      sizeof word, error);
}

/* Entries begin at multiples of 8 bytes: a flag is written whole or not at all. */
static gboolean
use(Qcow2Image *image, gboolean all, GError **error)
{
    Qcow2Bitmaps *bitmaps = image->bitmaps;

    for (guint i = 0; i < bitmaps->list->len; i++) {
        Qcow2Bitmap *b = nth(bitmaps, i);
        if (b->ours || !qcow2_bitmap_is_sound(b) || !(all || (b->flags & QCOW2_BITMAP_AUTO)))
            continue;
        b->ours = TRUE;
        b->flags |= QCOW2_BITMAP_IN_USE;
        bitmaps->tracking = TRUE;
        if (!qcow2_bitmap_write_flags_locked(image, b, error))
            return FALSE;
    }
    return !bitmaps->tracking || qcow2_barrier(image, QCOW2_RULE_IN_USE_BEFORE_DATA, error);
}

/* The granularity of the finest one that follows; FALSE: none does. */
static gboolean
finest(const Qcow2Bitmaps *bitmaps, guint *bits)
{
    *bits = G_MAXUINT;
    for (guint i = 0; i < bitmaps->list->len; i++)
        if (is_tracked(nth(bitmaps, i)))
            *bits = MIN(*bits, nth(bitmaps, i)->granularity_bits);
    return *bits != G_MAXUINT;
}

static gboolean spill(Qcow2Image *image, GError **error);

gboolean
qcow2_bitmaps_begin_locked(Qcow2Image *image, GError **error)
{
    Qcow2Bitmaps *bitmaps = image->bitmaps;
    guint bits;

    if (!bitmaps)
        return TRUE;
    if (bitmaps->set)
        return qcow2_dirty_set_bytes(bitmaps->set) <= SET_BYTES_MAX || spill(image, error);
    g_autofree char *refusal = qcow2_bitmaps_refusal_locked(image);
    if (refusal)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s", refusal);
    if (!finest(bitmaps, &bits))
        return TRUE;
    if (!use(image, FALSE, error))
        return FALSE;
    bitmaps->set = qcow2_dirty_set_new(bits);
    return TRUE;
}

guint64
qcow2_bitmaps_room_locked(const Qcow2Image *image, guint64 at, guint64 len)
{
    const Qcow2DirtySet *set = image->bitmaps ? image->bitmaps->set : NULL;
    guint64 room = set ? (OPERATION_CHUNKS * QCOW2_DIRTY_CHUNK_BITS) << set->granularity_bits : G_MAXUINT64;

    /* 16 GiB at the least, far more than a cluster. */
    return len <= room ? len : num_align_down(at + room, image->geo.cluster_bytes) - at;
}

void
qcow2_bitmaps_mark_locked(Qcow2Image *image, guint64 at, guint64 len)
{
    if (image->bitmaps && image->bitmaps->set && len > 0)
        qcow2_dirty_set_add(image->bitmaps->set, at, len);
}

/* --- another size --- */

static gboolean
check_resize(Qcow2Image *image, const Qcow2Bitmap *b, guint64 guest_bytes, GError **error)
{
    const char *label = image->base.file->label;
    g_autofree char *name = error_one_line(b->name);
    guint64 entries;

    if (!qcow2_bitmap_is_sound(b))
        return fail(
            error, KHO_ERROR_UNSUPPORTED, "%s cannot change its size: its bitmap '%s' %s: " CURE, label, name,
            b->unusable ? b->unusable : "is inconsistent, since it was in use when a program ended", label);
    entries = qcow2_bitmap_table_entries(&image->geo, guest_bytes, b->granularity_bits);
    if (entries == 0 || entries > QCOW2_BITMAP_BYTES_MAX >> image->geo.cluster_bits)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "%s cannot change its size: its bitmap '%s' would have %s: " CURE, label, name,
                    entries == 0 ? "no bits" : "more than 512 MiB", label);
    return TRUE;
}

gboolean
qcow2_bitmaps_check_resize_locked(Qcow2Image *image, guint64 guest_bytes, GError **error)
{
    for (guint i = 0; image->bitmaps && i < image->bitmaps->list->len; i++)
        if (!check_resize(image, nth(image->bitmaps, i), guest_bytes, error))
            return FALSE;
    return TRUE;
}

gboolean
qcow2_bitmaps_begin_resize_locked(Qcow2Image *image, guint64 guest_bytes, GError **error)
{
    if (!image->bitmaps)
        return TRUE;
    return qcow2_bitmaps_check_resize_locked(image, guest_bytes, error)
           && qcow2_bitmaps_begin_locked(image, error) && use(image, TRUE, error);
}

void
qcow2_bitmaps_cut_locked(Qcow2Image *image)
{
    Qcow2Bitmaps *bitmaps = image->bitmaps;

    if (!bitmaps)
        return;
    bitmaps->shortest_bytes = MIN(bitmaps->shortest_bytes, image->base.guest_bytes);
    if (bitmaps->set)
        qcow2_dirty_set_cut(bitmaps->set, image->base.guest_bytes);
}

/* --- storing --- */

/* What one bitmap takes over from the set: a Qcow2BitmapEdit. */
typedef struct {
    const Qcow2Image *image;
    GPtrArray *chunks; /* sorted; none where it does not follow */
    guint next;        /* the first chunk that was not taken over */
    guint shift;       /* its bits are so much coarser than the set's */
    guint64 end;       /* its bits from here on are cleared first */
    guint64 limit;     /* it has so many */
} Takeover;

static guint64
first_bit(const Takeover *t, const Qcow2DirtyChunk *chunk)
{
    return ((guint64) chunk->index * QCOW2_DIRTY_CHUNK_BITS) >> t->shift;
}

static guint64
next_entry(gpointer data, guint64 index)
{
    Takeover *t = data;
    guint64 bits = qcow2_bitmap_entry_bits(&t->image->geo), next = G_MAXUINT64;

    while (t->next < t->chunks->len && first_bit(t, t->chunks->pdata[t->next]) / bits < index)
        t->next++;
    if (t->next < t->chunks->len)
        next = first_bit(t, t->chunks->pdata[t->next]) / bits;
    if (t->end != G_MAXUINT64)
        next = MIN(next, MAX(index, t->end / bits));
    return next;
}

/* A chunk never reaches into a second entry: both are aligned powers of two, the entry's the larger. */
static void
take_chunk(const Takeover *t, const Qcow2DirtyChunk *chunk, guint64 first, guint8 *bits)
{
    guint64 base = (guint64) chunk->index * QCOW2_DIRTY_CHUNK_BITS;

    for (guint i = 0; i < G_N_ELEMENTS(chunk->words); i++)
        for (guint64 word = chunk->words[i]; word != 0; word &= word - 1) {
            guint64 bit = (base + i * 64 + (guint) __builtin_ctzll(word)) >> t->shift;
            if (bit < t->limit)
                qcow2_bits_set(bits, bit - first, bit - first + 1);
        }
}

static gboolean
edit_entry(gpointer data, guint64 index, guint8 *bits, GError **error)
{
    Takeover *t = data;
    guint64 per_entry = qcow2_bitmap_entry_bits(&t->image->geo), first = index * per_entry;

    (void) error;
    if (t->end < first + per_entry)
        qcow2_bits_clear(bits, t->end > first ? t->end - first : 0, per_entry);
    for (; t->next < t->chunks->len; t->next++) {
        const Qcow2DirtyChunk *chunk = t->chunks->pdata[t->next];
        if (first_bit(t, chunk) / per_entry != index)
            break;
        take_chunk(t, chunk, first, bits);
    }
    return TRUE;
}

/* A new table for one bitmap, where it needs one. */
static gboolean
take_over(Qcow2Image *image, Qcow2Bitmap *b, GPtrArray *chunks, GPtrArray *nothing, GError **error)
{
    guint64 guest_bytes = image->base.guest_bytes, shortest = image->bitmaps->shortest_bytes;
    gboolean follows = (b->flags & QCOW2_BITMAP_AUTO) != 0 && chunks->len > 0;
    Takeover t = {
        .image = image,
        .chunks = follows ? chunks : nothing,
        .shift = follows ? b->granularity_bits - image->bitmaps->set->granularity_bits : 0,
        .end = shortest == G_MAXUINT64 ? G_MAXUINT64 : qcow2_bitmap_bits(shortest, b->granularity_bits),
        .limit = qcow2_bitmap_bits(guest_bytes, b->granularity_bits),
    };
    const Qcow2BitmapEdit edit = { next_entry, edit_entry, &t };
    guint64 entries = qcow2_bitmap_table_entries(&image->geo, guest_bytes, b->granularity_bits);
    Qcow2BitmapTable made;

    if (!follows && t.end == G_MAXUINT64 && entries == b->table_entries)
        return TRUE;
    if (!qcow2_bitmap_rebuild_locked(image, qcow2_bitmap_table(b), entries, &edit, &made, error))
        return FALSE;
    b->moved = TRUE;
    b->new_table_off = made.off;
    b->new_table_entries = (guint32) made.entries;
    return TRUE;
}

static Qcow2BitmapTable
new_table(const Qcow2Bitmap *b)
{
    return (Qcow2BitmapTable){ b->new_table_off, b->new_table_entries };
}

void
qcow2_bitmaps_drop_moved_locked(Qcow2Image *image)
{
    for (guint i = 0; i < image->bitmaps->list->len; i++) {
        Qcow2Bitmap *b = nth(image->bitmaps, i);
        if (b->moved)
            qcow2_bitmap_release_locked(image, new_table(b), qcow2_bitmap_table(b), NULL);
        b->moved = FALSE;
    }
}

/* Place and length stand in two words, which may reach the disk one without the other. So a length that
 * shrinks comes before the place, and one that grows after it: either way the table named is as long as it
 * is said to be. Only one that is in use changes its length: nobody believes it in between. */
static gboolean
point_at_new(Qcow2Image *image, gboolean second, GError **error)
{
    for (guint i = 0; i < image->bitmaps->list->len; i++) {
        const Qcow2Bitmap *b = nth(image->bitmaps, i);
        Qcow2Bitmap new = *b;
        gboolean shrinks = b->new_table_entries < b->table_entries;

        new.table_off = b->new_table_off;
        new.table_entries = b->new_table_entries;
        if (!b->moved || (second && b->new_table_entries == b->table_entries))
            continue;
        if (shrinks != second ? !qcow2_bitmap_write_flags_locked(image, &new, error)
                              : !write_table_off(image, &new, error))
            return FALSE;
    }
    return TRUE;
}

/* Does one change the length of its table? */
static gboolean
any_resized(const Qcow2Bitmaps *bitmaps)
{
    for (guint i = 0; i < bitmaps->list->len; i++)
        if (nth(bitmaps, i)->moved && nth(bitmaps, i)->new_table_entries != nth(bitmaps, i)->table_entries)
            return TRUE;
    return FALSE;
}

gboolean
qcow2_bitmaps_move_locked(Qcow2Image *image, GError **error)
{
    const guint built = QCOW2_RULE_REFCOUNT_BEFORE_REFERENCE | QCOW2_RULE_TABLE_BEFORE_POINTER;
    gboolean resized = any_resized(image->bitmaps);

    if (!qcow2_write_refcounts_locked(image, error) || !qcow2_barrier(image, built, error)) {
        qcow2_bitmaps_drop_moved_locked(image);
        return FALSE;
    }
    if (!point_at_new(image, FALSE, error)
        || (resized
            && (!qcow2_barrier(image, QCOW2_RULE_TABLE_BEFORE_POINTER, error)
                || !point_at_new(image, TRUE, error)))
        || !qcow2_barrier(image, QCOW2_RULE_L2_BEFORE_LOWER | QCOW2_RULE_STORED_BEFORE_BELIEVED, error)) {
        image->broken = TRUE; /* nobody can say which tables are named now */
        return FALSE;
    }
    for (guint i = 0; i < image->bitmaps->list->len; i++) {
        Qcow2Bitmap *b = nth(image->bitmaps, i);
        Qcow2BitmapTable old = qcow2_bitmap_table(b);
        if (!b->moved)
            continue;
        b->moved = FALSE;
        b->table_off = b->new_table_off;
        b->table_entries = b->new_table_entries;
        if (!qcow2_bitmap_release_locked(image, old, qcow2_bitmap_table(b), error))
            return FALSE;
    }
    return TRUE;
}

/* What the set holds goes into the tables; they stay in use. */
static gboolean
spill(Qcow2Image *image, GError **error)
{
    Qcow2Bitmaps *bitmaps = image->bitmaps;
    g_autoptr(GPtrArray) nothing = g_ptr_array_new();
    g_autoptr(GPtrArray) chunks =
        bitmaps->set ? qcow2_dirty_set_sorted(bitmaps->set) : g_ptr_array_ref(nothing);
    gboolean any = FALSE;

    for (guint i = 0; i < bitmaps->list->len; i++) {
        Qcow2Bitmap *b = nth(bitmaps, i);
        if (b->ours && !take_over(image, b, chunks, nothing, error)) {
            qcow2_bitmaps_drop_moved_locked(image);
            return FALSE;
        }
        any = any || b->moved;
    }
    if (any && !qcow2_bitmaps_move_locked(image, error))
        return FALSE;
    if (bitmaps->set)
        qcow2_dirty_set_clear(bitmaps->set);
    bitmaps->shortest_bytes = G_MAXUINT64;
    return TRUE;
}

gboolean
qcow2_bitmaps_store_locked(Qcow2Image *image, GError **error)
{
    Qcow2Bitmaps *bitmaps = image->bitmaps;

    if (!bitmaps || !bitmaps->tracking)
        return TRUE;
    if (!spill(image, error)) {
        g_prefix_error(error,
                       "%s: what was written could not be stored in its bitmaps, which are "
                       "inconsistent now: ",
                       image->base.file->label);
        return FALSE;
    }
    for (guint i = 0; i < bitmaps->list->len; i++) {
        Qcow2Bitmap *b = nth(bitmaps, i);
        if (!b->ours)
            continue;
        b->flags &= ~(guint32) QCOW2_BITMAP_IN_USE;
        if (!qcow2_bitmap_write_flags_locked(image, b, error)) {
            b->flags |= QCOW2_BITMAP_IN_USE;
            return FALSE;
        }
        b->ours = FALSE;
    }
    bitmaps->tracking = FALSE;
    g_clear_pointer(&bitmaps->set, qcow2_dirty_set_free);
    return TRUE;
}
