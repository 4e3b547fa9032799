#include "qcow2/dirty_set.h"

#include "base/num.h"

Qcow2DirtySet *
qcow2_dirty_set_new(guint granularity_bits)
{
    Qcow2DirtySet *set = g_new0(Qcow2DirtySet, 1);

    set->granularity_bits = granularity_bits;
    set->chunks = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    return set;
}

void
qcow2_dirty_set_free(Qcow2DirtySet *set)
{
    if (!set)
        return;
    g_hash_table_unref(set->chunks);
    g_free(set);
}

static Qcow2DirtyChunk *
chunk_at(Qcow2DirtySet *set, gint64 index)
{
    if (set->last && set->last->index == index)
        return set->last;
    set->last = g_hash_table_lookup(set->chunks, &index);
    if (!set->last) {
        set->last = g_new0(Qcow2DirtyChunk, 1);
        set->last->index = index;
        g_hash_table_insert(set->chunks, &set->last->index, set->last);
    }
    return set->last;
}

/* Bits [from, to) of one word. */
static guint64
mask(guint from, guint to)
{
    guint64 below_to = to == 64 ? G_MAXUINT64 : (G_GUINT64_CONSTANT(1) << to) - 1;

    return below_to & ~((G_GUINT64_CONSTANT(1) << from) - 1);
}

void
qcow2_dirty_set_add(Qcow2DirtySet *set, guint64 at, guint64 len)
{
    guint64 bit = at >> set->granularity_bits, end = ((at + len - 1) >> set->granularity_bits) + 1;

    while (bit < end) {
        Qcow2DirtyChunk *chunk = chunk_at(set, (gint64) (bit / QCOW2_DIRTY_CHUNK_BITS));
        guint inside = bit % QCOW2_DIRTY_CHUNK_BITS;
        guint to = (guint) MIN(QCOW2_DIRTY_CHUNK_BITS, inside + (end - bit));

        bit += to - inside;
        while (inside < to) {
            guint next = MIN((inside / 64 + 1) * 64, to);
            chunk->words[inside / 64] |= mask(inside % 64, next - inside / 64 * 64);
            inside = next;
        }
    }
}

void
qcow2_dirty_set_cut(Qcow2DirtySet *set, guint64 bytes)
{
    guint64 end = num_div_up(bytes, G_GUINT64_CONSTANT(1) << set->granularity_bits);
    GHashTableIter iter;
    gpointer value;

    set->last = NULL;
    g_hash_table_iter_init(&iter, set->chunks);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Qcow2DirtyChunk *chunk = value;
        guint64 first = (guint64) chunk->index * QCOW2_DIRTY_CHUNK_BITS;
        if (first >= end) {
            g_hash_table_iter_remove(&iter);
            continue;
        }
        guint64 kept = MIN(end - first, QCOW2_DIRTY_CHUNK_BITS);
        for (guint i = 0; i < G_N_ELEMENTS(chunk->words); i++) {
            guint64 left = kept > i * 64ull ? MIN(kept - i * 64ull, 64) : 0;
            chunk->words[i] &= left == 0 ? 0 : mask(0, (guint) left);
        }
    }
}

void
qcow2_dirty_set_clear(Qcow2DirtySet *set)
{
    set->last = NULL;
    g_hash_table_remove_all(set->chunks);
}

guint64
qcow2_dirty_set_bytes(const Qcow2DirtySet *set)
{
    return (guint64) g_hash_table_size(set->chunks) * QCOW2_DIRTY_CHUNK_BYTES;
}

static gint
by_place(gconstpointer a, gconstpointer b)
{
    const Qcow2DirtyChunk *first = *(Qcow2DirtyChunk *const *) a, *second = *(Qcow2DirtyChunk *const *) b;

    return first->index < second->index ? -1 : first->index > second->index;
}

GPtrArray *
qcow2_dirty_set_sorted(const Qcow2DirtySet *set)
{
    GPtrArray *sorted = g_ptr_array_sized_new(g_hash_table_size(set->chunks));
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, set->chunks);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(sorted, value);
    g_ptr_array_sort(sorted, by_place);
    return sorted;
}
