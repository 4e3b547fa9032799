#include "qcow2/place.h"

#include "base/error.h"
#include "qcow2/flush.h"
#include "qcow2/l2.h"
#include "qcow2/refcount.h"

/* What a write does to a cluster. */
typedef enum {
    IN_PLACE, /* data that this image alone names */
    REUSE,    /* space kept under a zero flag: written, then the flag goes */
    FRESH,    /* needs a new cluster */
} WriteKind;

static WriteKind
write_kind(const Qcow2Cluster *cluster)
{
    if (cluster->copied && cluster->kind == QCOW2_CLUSTER_DATA)
        return IN_PLACE;
    if (cluster->copied && cluster->kind == QCOW2_CLUSTER_ZERO_ALLOC)
        return REUSE;
    return FRESH;
}

/* The first place held in [from, to), or NULL. */
static const Place *
held_in(const Qcow2Image *image, guint64 from, guint64 to)
{
    const Place *first = NULL;

    for (GList *link = image->places.head; link; link = link->next) {
        const Place *held = link->data;
        if (held->at.bytes < to && held->at.bytes + held->bytes > from
            && (!first || held->at.bytes < first->at.bytes))
            first = held;
    }
    return first;
}

void
qcow2_wait_places_locked(Qcow2Image *image, guint64 from, guint64 to)
{
    while (held_in(image, from, to))
        g_cond_wait(&image->place_gone, &image->meta);
}

static void
hold(Qcow2Image *image, const Place *place)
{
    g_queue_push_tail(&image->places, g_memdup2(place, sizeof *place));
}

static void
let_go(Qcow2Image *image, const Place *place)
{
    for (GList *link = image->places.head; link; link = link->next) {
        Place *held = link->data;
        if (held->at.bytes != place->at.bytes)
            continue;
        g_queue_delete_link(&image->places, link);
        g_free(held);
        g_cond_broadcast(&image->place_gone);
        return;
    }
    g_assert_not_reached(); /* every new place is committed or abandoned once */
}

/* The stretch of clusters from @index on, at most @want, that a write treats like the first. */
static gboolean
stretch(Qcow2Image *image, const Qcow2Table *table, Qcow2Index index, guint64 want, Qcow2Cluster *first,
        guint64 *n, GError **error)
{
    *first = (Qcow2Cluster){ .kind = QCOW2_CLUSTER_HOLE };
    *n = MIN(want, image->geo.l2_entries - index.l2_index);
    if (!table)
        return TRUE;
    if (!qcow2_l2_cluster_locked(image, table, index, first, error))
        return FALSE;
    for (guint64 i = 1; i < *n; i++) {
        Qcow2Index next = { index.l1_index, index.l2_index + i };
        Qcow2Cluster c;
        /* A wrong entry further on must not be overwritten unseen, nor fail what comes before it. */
        if (qcow2_l2_decode(qcow2_l2_entry(table, next.l2_index), &image->header, &c)
            || write_kind(&c) != write_kind(first)
            || (write_kind(first) != FRESH
                && c.host_bytes != first->host_bytes + (i << image->geo.cluster_bits))) {
            *n = i;
            return TRUE;
        }
    }
    return TRUE;
}

static gboolean
check_guard(Qcow2Image *image, guint64 host_bytes, guint64 n, guint64 guest_off, GError **error)
{
    if (!qcow2_guard_holds(&image->guard, host_bytes >> image->geo.cluster_bits, n))
        return TRUE;
    return qcow2_corrupt_locked(image, error,
                                "guest offset %" G_GUINT64_FORMAT
                                ": data is mapped to byte %" G_GUINT64_FORMAT ", where metadata lies",
                                guest_off, host_bytes);
}

static gboolean
prepare_locked(Qcow2Image *image, guint64 at, guint64 max_bytes, Place *place, GError **error)
{
    guint bits = image->geo.cluster_bits;
    guint64 start = num_align_down(at, image->geo.cluster_bytes), inside = at - start;
    Qcow2Index index = qcow2_index(&image->geo, at);
    Qcow2Table *table;
    Qcow2Cluster first;
    guint64 n, cluster;

    const Place *ahead =
        held_in(image, start, start + num_align_up(inside + max_bytes, image->geo.cluster_bytes));
    if (ahead)
        max_bytes = ahead->at.bytes - at; /* the first cluster is nobody's: the caller waited */
    if (!qcow2_l2_get_locked(image, index.l1_index, &table, error)
        || !stretch(image, table, index, num_div_up(inside + max_bytes, image->geo.cluster_bytes), &first, &n,
                    error))
        return FALSE;
    WriteKind kind = write_kind(&first);
    if (kind != FRESH && !check_guard(image, first.host_bytes, n, start, error))
        return FALSE;
    if (kind == IN_PLACE) {
        *place = (Place){ .at = guest_off(at),
                          .host = host_off(first.host_bytes + inside),
                          .bytes = MIN((n << bits) - inside, max_bytes),
                          .in_place = TRUE };
        return TRUE;
    }
    /* The table that commit will change is made now, so that commit cannot run out of space. */
    if (!qcow2_l2_writable_locked(image, index.l1_index, &table, error))
        return FALSE;
    if (kind == FRESH) {
        if (!qcow2_alloc(image, n, FALSE, &cluster, &n, error))
            return FALSE;
        first.host_bytes = cluster << bits;
    }
    *place = (Place){ .at = guest_off(start), .host = host_off(first.host_bytes), .bytes = n << bits };
    return TRUE;
}

gboolean
qcow2_prepare(FormatImage *format, GuestOff at, guint64 max_bytes, Place *place, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
    guint64 start = num_align_down(at.bytes, image->geo.cluster_bytes);

    qcow2_wait_places_locked(image, start, start + image->geo.cluster_bytes);
    if (!qcow2_begin_write_locked(image, error) || !qcow2_settle_locked(image, error)
        || !prepare_locked(image, at.bytes, max_bytes, place, error))
        return FALSE;
    if (!place->in_place)
        hold(image, place);
    return TRUE;
}

static gboolean
commit_locked(Qcow2Image *image, const Place *place, GError **error)
{
    Qcow2Index index = qcow2_index(&image->geo, place->at.bytes);
    guint64 n = place->bytes >> image->geo.cluster_bits;
    Qcow2Table *table;

    if (image->broken)
        return fail(error, KHO_ERROR_IO, "%s takes no more writes: an earlier flush failed",
                    image->base.file->label);
    if (!qcow2_l2_writable_locked(image, index.l1_index, &table, error))
        return FALSE;
    for (guint64 i = 0; i < n; i++) {
        guint64 host = place->host.bytes + (i << image->geo.cluster_bits);
        guint64 old = qcow2_l2_entry(table, index.l2_index + i);
        if ((old & QCOW2_ENTRY_COMPRESSED) || (old & QCOW2_ENTRY_OFFSET) != host)
            qcow2_refcount_release_later(image, &image->header, old);
        qcow2_l2_set(image, table, index.l2_index + i, host | QCOW2_ENTRY_COPIED);
    }
    return TRUE;
}

/* Was this place mapped (under a zero flag) before prepare? Then it stays so. */
static gboolean
is_reuse(Qcow2Image *image, const Place *place)
{
    Qcow2Index index = qcow2_index(&image->geo, place->at.bytes);
    Qcow2Table *table;

    return qcow2_l2_get_locked(image, index.l1_index, &table, NULL) && table
           && (qcow2_l2_entry(table, index.l2_index) & (QCOW2_ENTRY_OFFSET | QCOW2_ENTRY_COMPRESSED))
                  == place->host.bytes;
}

gboolean
qcow2_commit(FormatImage *format, const Place *place, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);

    if (place->in_place)
        return TRUE;
    if (!commit_locked(image, place, error))
        return FALSE;
    let_go(image, place);
    return TRUE;
}

void
qcow2_abandon(FormatImage *format, const Place *place)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);

    if (place->in_place)
        return;
    /* No entry has named the clusters, on disk or in memory: they are free at once. A failure leaks them. */
    if (!is_reuse(image, place))
        qcow2_refcount_lower(image, place->host.bytes >> image->geo.cluster_bits,
                             place->bytes >> image->geo.cluster_bits, NULL);
    let_go(image, place);
}

/* Is a hole whatever lies below? */
static gboolean
has_below(const Qcow2Image *image)
{
    return image->extensions.backing_file != NULL || image->base.gains_backing;
}

/* What a cluster becomes that shall read as zeros, given what it is. */
static guint64
zero_entry(const Qcow2Image *image, const Qcow2Cluster *cluster)
{
    if (image->header.version < 3)
        return 0;
    return cluster->kind == QCOW2_CLUSTER_HOLE && !has_below(image) ? 0 : QCOW2_ENTRY_ZERO;
}

static gboolean
reads_as_zeros(const Qcow2Image *image, const Qcow2Cluster *cluster)
{
    switch (cluster->kind) {
    case QCOW2_CLUSTER_ZERO:
    case QCOW2_CLUSTER_ZERO_ALLOC: return TRUE;
    case QCOW2_CLUSTER_HOLE: return !has_below(image);
    default: return FALSE;
    }
}

/* Guest clusters under one L2 table from @at on; *covered is in bytes from the start of @at's cluster. */
static gboolean
zero_in_table(Qcow2Image *image, guint64 at, guint64 end, guint64 *covered, GError **error)
{
    guint64 cluster = image->geo.cluster_bytes, start = num_align_down(at, cluster);
    Qcow2Index index = qcow2_index(&image->geo, at);
    guint64 n = MIN(num_div_up(end - start, cluster), image->geo.l2_entries - index.l2_index);
    gboolean can_flag = image->header.version >= 3 || !has_below(image);
    Qcow2Table *table;

    *covered = 0;
    if (!qcow2_l2_get_locked(image, index.l1_index, &table, error))
        return FALSE;
    for (guint64 i = 0; i < n; i++, *covered += cluster) {
        Qcow2Index here = { index.l1_index, index.l2_index + i };
        Qcow2Cluster c = { .kind = QCOW2_CLUSTER_HOLE };
        if (table && !qcow2_l2_cluster_locked(image, table, here, &c, error))
            return FALSE;
        if (reads_as_zeros(image, &c))
            continue;
        /* The last cluster of the disk counts as whole. */
        gboolean whole =
            start + *covered >= at && (start + *covered + cluster <= end || end == image->base.guest_bytes);
        if (!whole || !can_flag)
            return TRUE;
        if (!qcow2_l2_writable_locked(image, index.l1_index, &table, error))
            return FALSE;
        qcow2_refcount_release_later(image, &image->header, qcow2_l2_entry(table, here.l2_index));
        qcow2_l2_set(image, table, here.l2_index, zero_entry(image, &c));
    }
    return TRUE;
}

gboolean
qcow2_zero(FormatImage *format, GuestOff at, guint64 len, guint64 *done, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
    guint64 cluster = image->geo.cluster_bytes, start = num_align_down(at.bytes, cluster);
    guint64 covered;

    qcow2_wait_places_locked(image, start, num_align_up(at.bytes + len, cluster));
    if (!qcow2_begin_write_locked(image, error)
        || !zero_in_table(image, at.bytes, at.bytes + len, &covered, error)
        || !qcow2_settle_locked(image, error))
        return FALSE;
    *done = covered > at.bytes - start ? MIN(covered - (at.bytes - start), len) : 0;
    return TRUE;
}
