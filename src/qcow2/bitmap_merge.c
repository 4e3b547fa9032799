#include "qcow2/bitmap_merge.h"

/* A Qcow2BitmapEdit: which entry of the target is being changed. */
typedef struct {
    const Qcow2BitmapMerge *merge;
    guint64 to_bits, from_bits;   /* that an entry stands for */
    guint64 to_limit, from_limit; /* that the bitmap has */
    guint64 first;                /* bit of the entry being changed */
    guint8 *bits;                 /* its bits */
} Merging;

/* The source's entries that tell of the same bytes as the target's entry @index. */
static void
source_range(const Merging *m, guint64 index, guint64 *first, guint64 *end)
{
    guint to = m->merge->to->granularity_bits, from = m->merge->from->granularity_bits;
    guint64 first_bit = index * m->to_bits, last_bit = MIN(first_bit + m->to_bits, m->to_limit) - 1;

    *first = ((first_bit << to) >> from) / m->from_bits;
    *end = ((((last_bit + 1) << to) - 1) >> from) / m->from_bits + 1;
}

/* Bits [from, to) of the source are set: what they tell of, as far as it lies in the entry. */
static void
add_run(const Merging *m, guint64 from, guint64 to)
{
    guint fine = m->merge->from->granularity_bits, coarse = m->merge->to->granularity_bits;
    guint64 first = (from << fine) >> coarse, last = ((to << fine) - 1) >> coarse;
    guint64 end = MIN(MIN(last + 1, m->to_limit), m->first + m->to_bits);

    first = MAX(first, m->first);
    if (first < end)
        qcow2_bits_set(m->bits, first - m->first, end - m->first);
}

static gboolean
add_bits(gpointer data, guint64 index, guint8 *bits, GError **error)
{
    const Merging *m = data;
    guint64 base = index * m->from_bits, end = MIN(m->from_bits, m->from_limit - MIN(base, m->from_limit));

    (void) error;
    for (guint64 bit = 0, run; bit < end; bit = run) {
        if (bits[bit / 8] == 0) {
            run = (bit / 8 + 1) * 8;
            continue;
        }
        gboolean set = bits[bit / 8] >> (bit % 8) & 1;
        for (run = bit + 1; run < end;) {
            gboolean whole = set && run % 8 == 0 && run + 8 <= end && bits[run / 8] == 0xff;
            if (!whole && (bits[run / 8] >> (run % 8) & 1) != set)
                break;
            run += whole ? 8 : 1;
        }
        if (set)
            add_run(m, base + bit, base + run);
    }
    return TRUE;
}

static gboolean
edit_entry(gpointer data, guint64 index, guint8 *bits, GError **error)
{
    Merging *m = data;
    const Qcow2BitmapMerge *merge = m->merge;
    guint64 first, end;

    source_range(m, index, &first, &end);
    m->first = index * m->to_bits;
    m->bits = bits;
    return qcow2_bitmap_read_locked(merge->source, qcow2_bitmap_table(merge->from), first, end, add_bits, m,
                                    error);
}

/* Something is there: enough for the search. */
static gboolean
note_found(gpointer data, guint64 index, guint8 *bits, GError **error)
{
    (void) index;
    (void) bits;
    (void) error;
    (void) data;
    return FALSE;
}

/* The first entry for which the source has something; also where it cannot be read, which the edit meets. */
static guint64
next_entry(gpointer data, guint64 index)
{
    Merging *m = data;
    const Qcow2BitmapMerge *merge = m->merge;

    for (; index < merge->to->table_entries; index++) {
        guint64 first, end;
        source_range(m, index, &first, &end);
        if (!qcow2_bitmap_read_locked(merge->source, qcow2_bitmap_table(merge->from), first, end, note_found,
                                      m, NULL))
            return index;
    }
    return G_MAXUINT64;
}

gboolean
qcow2_bitmap_merge_locked(const Qcow2BitmapMerge *merge, Qcow2BitmapTable *made, GError **error)
{
    guint64 guest_bytes = merge->image->base.guest_bytes;
    Merging merging = {
        .merge = merge,
        .to_bits = qcow2_bitmap_entry_bits(&merge->image->geo),
        .from_bits = qcow2_bitmap_entry_bits(&merge->source->geo),
        .to_limit = qcow2_bitmap_bits(guest_bytes, merge->to->granularity_bits),
        .from_limit = qcow2_bitmap_bits(guest_bytes, merge->from->granularity_bits),
    };
    const Qcow2BitmapEdit edit = { next_entry, edit_entry, &merging };

    return qcow2_bitmap_rebuild_locked(merge->image, qcow2_bitmap_table(merge->to), merge->to->table_entries,
                                       &edit, made, error);
}
