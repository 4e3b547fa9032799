#include "qcow2/cache.h"

#include "base/error.h"
#include "base/num.h"

/* 8 MiB of tables map 64 GiB of guest bytes in 64 KiB clusters; at least 16 tables, so that 2 MiB clusters
 * work. */
#define CACHE_BYTES      (8 * MIB)
#define CACHE_MIN_TABLES 16
#define SECTOR           512

/* Offsets of tables lie in steps of powers of two, which GLib's hash makes meet. */
static guint
hash_offset(gconstpointer key)
{
    return (guint) ((*(const guint64 *) key * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15)) >> 32);
}

void
qcow2_cache_init(Qcow2Cache *cache, BlkStore *file, guint64 cluster_bytes)
{
    *cache = (Qcow2Cache){ .file = file, .cluster_bytes = cluster_bytes };
    cache->tables = g_hash_table_new_full(hash_offset, g_int64_equal, NULL, g_free);
    cache->max_tables = MAX(CACHE_BYTES / cluster_bytes, CACHE_MIN_TABLES);
    g_queue_init(&cache->ages);
}

void
qcow2_cache_clear(Qcow2Cache *cache)
{
    g_clear_pointer(&cache->tables, g_hash_table_unref);
    g_queue_init(&cache->ages);
    cache->n_dirty = 0;
}

static Qcow2Table *
insert(Qcow2Cache *cache, Qcow2TableKind kind, guint64 off)
{
    Qcow2Table *table = g_malloc0(sizeof *table + cache->cluster_bytes);

    table->off = off;
    table->kind = kind;
    table->age.data = table;
    g_hash_table_insert(cache->tables, &table->off, table);
    g_queue_push_head_link(&cache->ages, &table->age);
    return table;
}

Qcow2Table *
qcow2_cache_get(Qcow2Cache *cache, Qcow2TableKind kind, guint64 off, GError **error)
{
    Qcow2Table *table = g_hash_table_lookup(cache->tables, &off);

    if (!table) {
        table = insert(cache, kind, off);
        /* Tables at the end of a file that was cut to its last byte in use: what is missing is zeros. */
        if (!blk_pread_padded(cache->file, off, table->bytes, cache->cluster_bytes, error)) {
            qcow2_cache_drop(cache, off);
            return NULL;
        }
        return table;
    }
    if (table->kind != kind) {
        fail(error, KHO_ERROR_CORRUPT,
             "%s is corrupt: the cluster at byte %" G_GUINT64_FORMAT " is an L2 table and a refcount block",
             cache->file->label, off);
        return NULL;
    }
    g_queue_unlink(&cache->ages, &table->age);
    g_queue_push_head_link(&cache->ages, &table->age);
    return table;
}

Qcow2Table *
qcow2_cache_add(Qcow2Cache *cache, Qcow2TableKind kind, guint64 off)
{
    qcow2_cache_drop(cache, off);
    Qcow2Table *table = insert(cache, kind, off);
    table->fresh = TRUE;
    qcow2_table_touch(cache, table, 0, (guint) cache->cluster_bytes);
    return table;
}

void
qcow2_table_touch(Qcow2Cache *cache, Qcow2Table *table, guint from, guint to)
{
    if (table->dirty_from == table->dirty_to) {
        cache->n_dirty++;
        table->dirty_from = from;
        table->dirty_to = to;
        return;
    }
    table->dirty_from = MIN(table->dirty_from, from);
    table->dirty_to = MAX(table->dirty_to, to);
}

static void
set_clean(Qcow2Cache *cache, Qcow2Table *table)
{
    if (table->dirty_from < table->dirty_to)
        cache->n_dirty--;
    table->dirty_from = table->dirty_to = 0;
}

gboolean
qcow2_table_write(Qcow2Cache *cache, Qcow2Table *table, GError **error)
{
    guint64 from = num_align_down(table->dirty_from, SECTOR), to = num_align_up(table->dirty_to, SECTOR);

    if (!blk_pwrite(cache->file, table->off + from, table->bytes + from, to - from, error))
        return FALSE;
    set_clean(cache, table);
    return TRUE;
}

void
qcow2_cache_drop(Qcow2Cache *cache, guint64 off)
{
    Qcow2Table *table = g_hash_table_lookup(cache->tables, &off);

    if (!table)
        return;
    set_clean(cache, table);
    g_queue_unlink(&cache->ages, &table->age);
    g_hash_table_remove(cache->tables, &off);
}

void
qcow2_cache_drop_all(Qcow2Cache *cache)
{
    g_queue_init(&cache->ages);
    g_hash_table_remove_all(cache->tables);
    cache->n_dirty = 0;
}

void
qcow2_cache_trim(Qcow2Cache *cache)
{
    GList *link = cache->ages.tail;

    while (link && cache->ages.length > cache->max_tables) {
        Qcow2Table *table = link->data;
        link = link->prev;
        if (table->dirty_from == table->dirty_to)
            qcow2_cache_drop(cache, table->off);
    }
}

void
qcow2_cache_pass(Qcow2Cache *cache, Qcow2Table *table)
{
    if (cache->ages.length > cache->max_tables && table->dirty_from == table->dirty_to)
        qcow2_cache_drop(cache, table->off);
}

static gint
by_offset(gconstpointer a, gconstpointer b)
{
    const Qcow2Table *x = *(Qcow2Table *const *) a, *y = *(Qcow2Table *const *) b;

    return x->off < y->off ? -1 : x->off > y->off;
}

GPtrArray *
qcow2_cache_dirty(const Qcow2Cache *cache)
{
    GPtrArray *dirty = g_ptr_array_sized_new(cache->n_dirty);

    for (GList *link = cache->ages.head; link; link = link->next) {
        Qcow2Table *table = link->data;
        if (table->dirty_from < table->dirty_to)
            g_ptr_array_add(dirty, table);
    }
    g_ptr_array_sort(dirty, by_offset);
    return dirty;
}
