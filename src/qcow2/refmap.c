#include "qcow2/refmap.h"

#include "base/num.h"

#include <string.h>

/* Clusters are counted in pages of cells, a cell being two bytes: three bits for the kind, the others for the
 * count. What does not fit (clusters of several kinds, very many references) is looked up in a table of its
 * own. An image of 1 TiB in clusters of 64 KiB takes 35 MiB, one of 1 MiB that refers to as many scattered
 * clusters as it can (128 Ki) 140 MiB: several windows. */
#define PAGE_CLUSTERS  512
#define CELL_KIND      7u
#define CELL_ONE       8u            /* in units of a count */
#define CELL_MAX       (0x1fffu - 1) /* the highest count in a cell */
#define CELL_ELSEWHERE ((guint16) G_MAXUINT16)
/* What a page or an entry of a hash table costs beside itself, about. */
#define HASHED_BYTES 64
/* Pages so near to the window's start are found without hashing: 128 Mi clusters, 2 MiB of pointers. There
 * are only so many of them as the highest such page asks for: a small image is checked in microseconds. */
#define NEAR_PAGES (1u << 18)
#define NEAR_FIRST 64

typedef struct {
    guint64 index; /* of its first cluster, in pages */
    guint16 cells[PAGE_CLUSTERS];
} Page;

typedef struct {
    guint64 cluster;
    guint32 count;
    guint kinds;
} Special;

struct Qcow2RefMap {
    gsize room_bytes, used_bytes;
    guint64 step;
    guint64 from, limit; /* the window */
    guint64 end;
    Page **near;          /* by page from @from on */
    guint near_room;      /* there are so many */
    GHashTable *far;      /* Page by &page->index */
    GHashTable *specials; /* Special by &special->cluster */
    GPtrArray *sorted;    /* pages by index, for next; NULL until asked */
    guint cursor;         /* where next found its last answer in sorted */
};

Qcow2RefMap *
qcow2_refmap_new(gsize room_bytes, guint64 step)
{
    Qcow2RefMap *map = g_new0(Qcow2RefMap, 1);

    map->room_bytes = room_bytes;
    map->step = MAX(step, PAGE_CLUSTERS);
    map->limit = G_MAXUINT64;
    map->near = g_new0(Page *, NEAR_FIRST);
    map->near_room = NEAR_FIRST;
    map->far = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    map->specials = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    return map;
}

static guint64
near_index(const Qcow2RefMap *map, guint64 page_index)
{
    return page_index - map->from / PAGE_CLUSTERS;
}

static void
forget_near(Qcow2RefMap *map)
{
    for (guint i = 0; i < map->near_room; i++)
        g_clear_pointer(&map->near[i], g_free);
}

void
qcow2_refmap_free(Qcow2RefMap *map)
{
    if (!map)
        return;
    forget_near(map);
    g_clear_pointer(&map->sorted, g_ptr_array_unref);
    g_hash_table_unref(map->far);
    g_hash_table_unref(map->specials);
    g_free(map->near);
    g_free(map);
}

void
qcow2_refmap_begin(Qcow2RefMap *map, guint64 from)
{
    forget_near(map);
    g_clear_pointer(&map->sorted, g_ptr_array_unref);
    g_hash_table_remove_all(map->far);
    g_hash_table_remove_all(map->specials);
    map->used_bytes = 0;
    map->from = from;
    map->limit = G_MAXUINT64;
    map->end = 0;
}

guint64
qcow2_refmap_from(const Qcow2RefMap *map)
{
    return map->from;
}

guint64
qcow2_refmap_limit(const Qcow2RefMap *map)
{
    return map->limit;
}

static Page *
page_of(const Qcow2RefMap *map, guint64 cluster)
{
    guint64 index = cluster / PAGE_CLUSTERS, near = near_index(map, index);

    if (cluster < map->from || cluster >= map->limit)
        return NULL;
    if (near < map->near_room)
        return map->near[near];
    return near < NEAR_PAGES ? NULL : g_hash_table_lookup(map->far, &index);
}

static gint
by_index(gconstpointer a, gconstpointer b)
{
    const Page *x = *(Page *const *) a, *y = *(Page *const *) b;

    return x->index < y->index ? -1 : x->index > y->index;
}

/* Pages by index; they stay the map's. */
static GPtrArray *
sorted_pages(const Qcow2RefMap *map)
{
    GPtrArray *sorted = g_ptr_array_sized_new(g_hash_table_size(map->far) + 1);
    GHashTableIter iter;
    gpointer page;

    for (guint i = 0; i < map->near_room; i++)
        if (map->near[i])
            g_ptr_array_add(sorted, map->near[i]);
    guint n_near = sorted->len;
    g_hash_table_iter_init(&iter, map->far);
    while (g_hash_table_iter_next(&iter, NULL, &page))
        g_ptr_array_add(sorted, page);
    qsort(sorted->pdata + n_near, sorted->len - n_near, sizeof *sorted->pdata, by_index);
    return sorted;
}

static gboolean
is_special_past(gpointer key, gpointer value, gpointer map)
{
    return ((Special *) value)->cluster >= ((Qcow2RefMap *) map)->limit;
}

static gboolean
is_page_past(gpointer key, gpointer value, gpointer map)
{
    return ((Page *) value)->index >= ((Qcow2RefMap *) map)->limit / PAGE_CLUSTERS;
}

/* The window ends earlier, where about half of the pages are left. */
static void
shrink(Qcow2RefMap *map)
{
    g_autoptr(GPtrArray) pages = sorted_pages(map);
    const Page *middle = pages->pdata[pages->len / 2];
    guint64 limit = MAX(num_align_down(middle->index * PAGE_CLUSTERS, map->step), map->from + map->step);

    if (limit >= map->limit)
        return; /* a single step: it takes what it takes */
    map->limit = limit;
    guint n_left = 0;
    while (n_left < pages->len && ((Page *) pages->pdata[n_left])->index < limit / PAGE_CLUSTERS)
        n_left++;
    for (guint64 i = near_index(map, limit / PAGE_CLUSTERS); i < map->near_room; i++)
        g_clear_pointer(&map->near[i], g_free);
    g_hash_table_foreach_remove(map->far, is_page_past, map);
    g_hash_table_foreach_remove(map->specials, is_special_past, map);
    map->used_bytes = (gsize) n_left * (sizeof(Page) + HASHED_BYTES)
                      + g_hash_table_size(map->specials) * (sizeof(Special) + HASHED_BYTES);
}

static void
use_room(Qcow2RefMap *map, gsize bytes)
{
    map->used_bytes += bytes + HASHED_BYTES;
    if (map->used_bytes > map->room_bytes)
        shrink(map);
}

static void
put_near(Qcow2RefMap *map, guint64 near, Page *page)
{
    guint room = map->near_room;

    while (near >= room)
        room *= 2;
    if (room > map->near_room) {
        map->near = g_renew(Page *, map->near, room);
        memset(map->near + map->near_room, 0, (room - map->near_room) * sizeof *map->near);
        map->near_room = room;
    }
    map->near[near] = page;
}

/* The page of a cluster in the window; NULL where making one moved the window's end before it. */
static Page *
make_page(Qcow2RefMap *map, guint64 cluster)
{
    Page *page = page_of(map, cluster);

    if (page)
        return page;
    page = g_new0(Page, 1);
    page->index = cluster / PAGE_CLUSTERS;
    g_clear_pointer(&map->sorted, g_ptr_array_unref);
    if (near_index(map, page->index) < NEAR_PAGES)
        put_near(map, near_index(map, page->index), page);
    else
        g_hash_table_insert(map->far, &page->index, page);
    use_room(map, sizeof *page);
    return cluster < map->limit ? page : NULL;
}

static guint
kind_number(Qcow2RefKind kind)
{
    return (guint) __builtin_ctz(kind) + 1;
}

static void
add_special(Qcow2RefMap *map, guint16 *cell, guint64 cluster, Qcow2RefKind kind)
{
    Special *special = g_hash_table_lookup(map->specials, &cluster);

    if (!special) {
        special = g_new0(Special, 1);
        special->cluster = cluster;
        special->count = *cell / CELL_ONE;
        special->kinds = 1u << ((*cell & CELL_KIND) - 1);
        *cell = CELL_ELSEWHERE;
        g_hash_table_insert(map->specials, &special->cluster, special);
        special->kinds |= kind;
        special->count++;
        use_room(map, sizeof *special);
        return;
    }
    special->kinds |= kind;
    if (special->count < G_MAXUINT32)
        special->count++;
}

/* Clusters [first, first + n) lie in one page. */
static void
add_in_page(Qcow2RefMap *map, guint64 first, guint64 n, Qcow2RefKind kind)
{
    Page *page = make_page(map, first);
    guint number = kind_number(kind);

    for (guint64 i = 0; page && i < n; i++) {
        guint16 *cell = &page->cells[(first + i) % PAGE_CLUSTERS];

        if (*cell == 0) {
            *cell = (guint16) (CELL_ONE | number);
        } else if ((*cell & CELL_KIND) == number && *cell != CELL_ELSEWHERE && *cell / CELL_ONE < CELL_MAX) {
            *cell = (guint16) (*cell + CELL_ONE);
        } else {
            add_special(map, cell, first + i, kind);
            page = page_of(map, first + i); /* the window may have become shorter */
        }
    }
}

void
qcow2_refmap_add(Qcow2RefMap *map, guint64 first, guint64 n, Qcow2RefKind kind)
{
    guint64 end = first + n;

    map->end = MAX(map->end, end);
    first = MAX(first, map->from);
    while (first < end && first < map->limit) {
        guint64 here = MIN(end, (first / PAGE_CLUSTERS + 1) * PAGE_CLUSTERS);

        add_in_page(map, first, here - first, kind);
        first = here;
    }
}

static guint16
cell_of(const Qcow2RefMap *map, guint64 cluster)
{
    const Page *page = page_of(map, cluster);

    return page ? page->cells[cluster % PAGE_CLUSTERS] : 0;
}

guint64
qcow2_refmap_count(const Qcow2RefMap *map, guint64 cluster)
{
    guint16 cell = cell_of(map, cluster);

    if (cell == CELL_ELSEWHERE)
        return ((Special *) g_hash_table_lookup(map->specials, &cluster))->count;
    return cell / CELL_ONE;
}

guint
qcow2_refmap_kinds(const Qcow2RefMap *map, guint64 cluster)
{
    guint16 cell = cell_of(map, cluster);

    if (cell == CELL_ELSEWHERE)
        return ((Special *) g_hash_table_lookup(map->specials, &cluster))->kinds;
    return cell == 0 ? 0 : 1u << ((cell & CELL_KIND) - 1);
}

gboolean
qcow2_refmap_is_plain(const Qcow2RefMap *map, guint64 cluster, guint64 count)
{
    guint16 cell = cell_of(map, cluster);
    guint shared = QCOW2_REF_L2 | QCOW2_REF_DATA | QCOW2_REF_COMPRESSED;

    return cell / CELL_ONE == count && cell != CELL_ELSEWHERE
           && (count < 2 || (shared & 1u << ((cell & CELL_KIND) - 1)));
}

guint64
qcow2_refmap_end(const Qcow2RefMap *map)
{
    return map->end;
}

guint64
qcow2_refmap_next(Qcow2RefMap *map, guint64 from)
{
    if (!map->sorted) {
        map->sorted = sorted_pages(map);
        map->cursor = 0;
    }
    if (map->cursor > 0 && ((Page *) map->sorted->pdata[map->cursor - 1])->index >= from / PAGE_CLUSTERS)
        map->cursor = 0; /* asked for something before the last answer */
    for (; map->cursor < map->sorted->len; map->cursor++) {
        const Page *page = map->sorted->pdata[map->cursor];
        guint64 first = page->index * PAGE_CLUSTERS;
        for (guint64 c = MAX(first, from); c < first + PAGE_CLUSTERS; c++)
            if (page->cells[c - first] != 0)
                return c;
    }
    return G_MAXUINT64;
}
