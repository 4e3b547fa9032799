/* A table of 64-bit words held in memory as a whole: the L1 table and the refcount table. Here lives loading
 * it, changing it and writing what changed; what a word means lives in entry.h. */
#ifndef KHO_QCOW2_WORDS_H
#define KHO_QCOW2_WORDS_H

#include "block/blk.h"

typedef struct {
    guint64 *words; /* in the machine's byte order; NULL: not loaded */
    guint64 n;
    guint64 off;                  /* in the file, bytes */
    guint64 dirty_from, dirty_to; /* indices; equal: nothing to write */
} Qcow2Words;

/* Reads @n words at @off. The caller bounded @n (32 MiB at most) and checked that they lie within the file.
 */
gboolean qcow2_words_load(Qcow2Words *table, BlkStore *file, guint64 off, guint64 n, GError **error);

/* A table of @n zeros, all of it dirty, that will lie at @off; the first words are @from's (may be NULL). */
void qcow2_words_init(Qcow2Words *table, guint64 off, guint64 n, const Qcow2Words *from);

void qcow2_words_set(Qcow2Words *table, guint64 index, guint64 word);

static inline gboolean
qcow2_words_dirty(const Qcow2Words *table)
{
    return table->dirty_from < table->dirty_to;
}

/* Writes the stretch that changed; it stays dirty on failure. */
gboolean qcow2_words_write(Qcow2Words *table, BlkStore *file, GError **error);

void qcow2_words_clear(Qcow2Words *table);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Qcow2Words, qcow2_words_clear)

#endif
