#include "qcow2/refmap.h"

/* A page is 336 bytes for 64 clusters: an image of 1 MiB that refers to as many scattered clusters as it can
 * (128 Ki entries) costs 50 MiB with the hash table's own, one of 1 TiB in 64 KiB clusters 90 MiB. */
#define PAGE_CLUSTERS 64

typedef struct {
    guint64 index; /* of its first cluster, in pages */
    guint32 counts[PAGE_CLUSTERS];
    guint8 kinds[PAGE_CLUSTERS];
} Page;

struct Qcow2RefMap {
    GHashTable *pages; /* by &page->index */
    Page *last;        /* the one used last: neighbours mostly follow each other */
    guint64 end;
    GPtrArray *sorted; /* pages by index, for next; NULL until asked */
    guint cursor;      /* where next found its last answer in sorted */
};

Qcow2RefMap *
qcow2_refmap_new(void)
{
    Qcow2RefMap *map = g_new0(Qcow2RefMap, 1);

    map->pages = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    return map;
}

void
qcow2_refmap_free(Qcow2RefMap *map)
{
    if (!map)
        return;
    g_clear_pointer(&map->sorted, g_ptr_array_unref);
    g_hash_table_unref(map->pages);
    g_free(map);
}

static Page *
page_of(const Qcow2RefMap *map, guint64 cluster)
{
    guint64 index = cluster / PAGE_CLUSTERS;

    if (map->last && map->last->index == index)
        return map->last;
    return g_hash_table_lookup(map->pages, &index);
}

gboolean
qcow2_refmap_add(Qcow2RefMap *map, guint64 cluster, Qcow2RefKind kind, guint64 max)
{
    Page *page = page_of(map, cluster);
    guint at = cluster % PAGE_CLUSTERS;

    if (!page) {
        page = g_new0(Page, 1);
        page->index = cluster / PAGE_CLUSTERS;
        g_hash_table_insert(map->pages, &page->index, page);
        g_clear_pointer(&map->sorted, g_ptr_array_unref);
    }
    map->last = page;
    page->kinds[at] |= (guint8) kind;
    if (page->counts[at] >= max)
        return FALSE;
    if (page->counts[at] < G_MAXUINT32)
        page->counts[at]++;
    map->end = MAX(map->end, cluster + 1);
    return TRUE;
}

guint64
qcow2_refmap_count(const Qcow2RefMap *map, guint64 cluster)
{
    const Page *page = page_of(map, cluster);

    return page ? page->counts[cluster % PAGE_CLUSTERS] : 0;
}

guint
qcow2_refmap_kinds(const Qcow2RefMap *map, guint64 cluster)
{
    const Page *page = page_of(map, cluster);

    return page ? page->kinds[cluster % PAGE_CLUSTERS] : 0;
}

guint64
qcow2_refmap_end(const Qcow2RefMap *map)
{
    return map->end;
}

static gint
by_index(gconstpointer a, gconstpointer b)
{
    const Page *x = *(Page *const *) a, *y = *(Page *const *) b;

    return x->index < y->index ? -1 : x->index > y->index;
}

static void
sort_pages(Qcow2RefMap *map)
{
    GHashTableIter iter;
    gpointer page;

    map->sorted = g_ptr_array_sized_new(g_hash_table_size(map->pages));
    map->cursor = 0;
    g_hash_table_iter_init(&iter, map->pages);
    while (g_hash_table_iter_next(&iter, NULL, &page))
        g_ptr_array_add(map->sorted, page);
    g_ptr_array_sort(map->sorted, by_index);
}

guint64
qcow2_refmap_next(Qcow2RefMap *map, guint64 from)
{
    if (!map->sorted)
        sort_pages(map);
    if (map->cursor > 0 && ((Page *) map->sorted->pdata[map->cursor - 1])->index >= from / PAGE_CLUSTERS)
        map->cursor = 0; /* asked for something before the last answer */
    for (; map->cursor < map->sorted->len; map->cursor++) {
        const Page *page = map->sorted->pdata[map->cursor];
        guint64 first = page->index * PAGE_CLUSTERS;
        for (guint64 c = MAX(first, from); c < first + PAGE_CLUSTERS; c++)
            if (page->counts[c - first] > 0)
                return c;
    }
    return G_MAXUINT64;
}
