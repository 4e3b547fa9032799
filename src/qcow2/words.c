#include "qcow2/words.h"

#include "base/num.h"

#include <string.h>

gboolean
qcow2_words_load(Qcow2Words *table, BlkStore *file, guint64 off, guint64 n, GError **error)
{
    g_autofree guint64 *words = g_new(guint64, n + 1);

    if (n > 0 && !blk_pread(file, off, words, n * 8, error))
        return FALSE;
    for (guint64 i = 0; i < n; i++)
        words[i] = GUINT64_FROM_BE(words[i]);
    qcow2_words_clear(table);
    *table = (Qcow2Words){ .words = g_steal_pointer(&words), .n = n, .off = off };
    return TRUE;
}

void
qcow2_words_init(Qcow2Words *table, guint64 off, guint64 n, const Qcow2Words *from)
{
    *table = (Qcow2Words){ .words = g_new0(guint64, n + 1), .n = n, .off = off, .dirty_to = n };
    if (from && from->n > 0)
        memcpy(table->words, from->words, MIN(n, from->n) * 8);
}

void
qcow2_words_set(Qcow2Words *table, guint64 index, guint64 word)
{
    g_assert(index < table->n);
    table->words[index] = word;
    if (!qcow2_words_dirty(table)) {
        table->dirty_from = index;
        table->dirty_to = index + 1;
        return;
    }
    table->dirty_from = MIN(table->dirty_from, index);
    table->dirty_to = MAX(table->dirty_to, index + 1);
}

gboolean
qcow2_words_write(Qcow2Words *table, BlkStore *file, GError **error)
{
    guint64 n = table->dirty_to - table->dirty_from;

    if (!qcow2_words_dirty(table))
        return TRUE;
    g_autofree guint64 *disk = g_new(guint64, n);
    for (guint64 i = 0; i < n; i++)
        disk[i] = GUINT64_TO_BE(table->words[table->dirty_from + i]);
    if (!blk_pwrite(file, table->off + table->dirty_from * 8, disk, n * 8, error))
        return FALSE;
    table->dirty_from = table->dirty_to = 0;
    return TRUE;
}

void
qcow2_words_clear(Qcow2Words *table)
{
    g_clear_pointer(&table->words, g_free);
    *table = (Qcow2Words){ 0 };
}
