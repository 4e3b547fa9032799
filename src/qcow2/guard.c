#include "qcow2/guard.h"

#include <string.h>

gboolean
qcow2_guard_holds(const Qcow2Guard *guard, guint64 first, guint64 n)
{
    for (guint64 i = first; i < first + n && i / 64 < guard->n_words; i++)
        if (guard->bits[i / 64] >> (i % 64) & 1)
            return TRUE;
    return FALSE;
}

/* The caller checked that the clusters lie within the file or were just allocated, so the map is at most
 * 1/4096 of the smallest cluster's file: 512 bytes hold 4096 bits. */
static void
reach(Qcow2Guard *guard, guint64 end)
{
    guint64 n_words = end / 64 + 1;

    if (n_words <= guard->n_words)
        return;
    n_words = MAX(n_words, guard->n_words * 2);
    guard->bits = g_renew(guint64, guard->bits, n_words);
    memset(guard->bits + guard->n_words, 0, (n_words - guard->n_words) * 8);
    guard->n_words = n_words;
}

gboolean
qcow2_guard_mark(Qcow2Guard *guard, guint64 first, guint64 n)
{
    gboolean alone = !qcow2_guard_holds(guard, first, n);

    reach(guard, first + n);
    for (guint64 i = first; i < first + n; i++)
        guard->bits[i / 64] |= G_GUINT64_CONSTANT(1) << (i % 64);
    return alone;
}

void
qcow2_guard_unmark(Qcow2Guard *guard, guint64 first, guint64 n)
{
    for (guint64 i = first; i < first + n && i / 64 < guard->n_words; i++)
        guard->bits[i / 64] &= ~(G_GUINT64_CONSTANT(1) << (i % 64));
}

void
qcow2_guard_clear(Qcow2Guard *guard)
{
    g_clear_pointer(&guard->bits, g_free);
    guard->n_words = 0;
}
