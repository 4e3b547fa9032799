#include "qcow2/guard.h"

#include <string.h>

#define CHUNK_BITS ((guint64) 512)

static guint64
bit_of(guint64 cluster)
{
    return G_GUINT64_CONSTANT(1) << (cluster % 64);
}

/* The word that @cluster is a bit of, or NULL where its chunk is not there. */
static guint64 *
word_of(const Qcow2Guard *guard, guint64 cluster)
{
    guint64 index = cluster / CHUNK_BITS;

    if (index >= guard->n_chunks || !guard->chunks[index])
        return NULL;
    return &guard->chunks[index][cluster % CHUNK_BITS / 64];
}

gboolean
qcow2_guard_holds(const Qcow2Guard *guard, guint64 first, guint64 n)
{
    guint64 end = MIN(first + n, guard->n_chunks * CHUNK_BITS);

    for (guint64 i = first; i < end;) {
        const guint64 *word = word_of(guard, i);
        if (word && (*word & bit_of(i)))
            return TRUE;
        /* past what holds nothing, as a whole */
        guint64 step = !word ? CHUNK_BITS : *word == 0 ? 64 : 1;
        i += step - i % step;
    }
    return FALSE;
}

/* The caller checked that the clusters lie within the file or were just allocated, so that there is a pointer
 * for at most each 256 KiB of it. */
static guint64 *
make_word(Qcow2Guard *guard, guint64 cluster)
{
    guint64 index = cluster / CHUNK_BITS;

    if (index >= guard->n_chunks) {
        guint64 n = MAX(index + 1, guard->n_chunks + guard->n_chunks / 4);
        guard->chunks = g_renew(guint64 *, guard->chunks, n);
        memset(guard->chunks + guard->n_chunks, 0, (n - guard->n_chunks) * sizeof *guard->chunks);
        guard->n_chunks = n;
    }
    if (!guard->chunks[index])
        guard->chunks[index] = g_new0(guint64, CHUNK_BITS / 64);
    return word_of(guard, cluster);
}

gboolean
qcow2_guard_mark(Qcow2Guard *guard, guint64 first, guint64 n)
{
    gboolean alone = !qcow2_guard_holds(guard, first, n);

    for (guint64 i = first; i < first + n; i++)
        *make_word(guard, i) |= bit_of(i);
    return alone;
}

void
qcow2_guard_unmark(Qcow2Guard *guard, guint64 first, guint64 n)
{
    for (guint64 i = first; i < first + n; i++) {
        guint64 *word = word_of(guard, i);
        if (word)
            *word &= ~bit_of(i);
    }
}

void
qcow2_guard_clear(Qcow2Guard *guard)
{
    for (guint64 i = 0; i < guard->n_chunks; i++)
        g_free(guard->chunks[i]);
    g_clear_pointer(&guard->chunks, g_free);
    guard->n_chunks = 0;
}
