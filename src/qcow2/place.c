#include "qcow2/place.h"

#include "base/error.h"
#include "qcow2/bitmap_track.h"
#include "qcow2/flush.h"
#include "qcow2/l2.h"
#include "qcow2/refcount.h"

/* What a write does to a subcluster. */
typedef enum {
    IN_PLACE, /* data in a cluster that this image alone names */
    REUSE,    /* space kept in such a cluster: written, then the entry says data */
    FRESH,    /* the whole cluster needs a new place */
} WriteKind;

static WriteKind
write_kind(const Qcow2Cluster *cluster, guint sub)
{
    if (!cluster->placed || !cluster->copied || cluster->compressed)
        return FRESH;
    return cluster->data >> sub & 1 ? IN_PLACE : REUSE;
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
    while (held_in(image, from, to)) {
        image->place_waiters++;
        g_cond_wait(&image->place_gone, &image->meta);
        image->place_waiters--;
    }
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
        if (image->place_waiters > 0)
            g_cond_broadcast(&image->place_gone);
        return;
    }
    g_assert_not_reached(); /* every new place is committed or abandoned once */
}

/* Of one L2 table: what a write wants. */
typedef struct {
    const Qcow2Table *table; /* NULL: none yet */
    Qcow2Index index;        /* of the cluster that it begins in */
    guint sub;               /* where in that cluster */
    guint64 want;            /* subclusters */
    gboolean moves;          /* not where it lies now */
} Wish;

static WriteKind
wished_kind(const Wish *wish, const Qcow2Cluster *cluster, guint sub)
{
    WriteKind kind = write_kind(cluster, sub);

    return kind == IN_PLACE && wish->moves ? FRESH : kind;
}

/* How many subclusters from @sub on a write treats alike. */
static guint
alike(const Wish *wish, const Qcow2Cluster *cluster, guint sub, guint subs)
{
    switch (wished_kind(wish, cluster, sub)) {
    case IN_PLACE: return qcow2_subs_run(cluster->data, sub, subs);
    case REUSE: return qcow2_subs_run(~cluster->data, sub, subs);
    case FRESH: return subs - sub;
    }
    return 1;
}

/* The stretch of subclusters, at most what is wished, that a write treats like the first. */
static gboolean
stretch(Qcow2Image *image, const Wish *wish, Qcow2Cluster *first, guint64 *n, GError **error)
{
    const guint subs = image->geo.subs;
    guint64 most = (image->geo.l2_entries - wish->index.l2_index) * subs - wish->sub;

    *first = (Qcow2Cluster){ 0 };
    *n = MIN(wish->want, most);
    if (!wish->table)
        return TRUE;
    if (!qcow2_l2_cluster_locked(image, wish->table, wish->index, first, error))
        return FALSE;
    guint64 same = alike(wish, first, wish->sub, subs);
    WriteKind kind = wished_kind(wish, first, wish->sub);
    for (guint64 i = 1; same < *n && (wish->sub + same) % subs == 0; i++) {
        Qcow2Entry entry = qcow2_l2_entry(&image->geo, wish->table, wish->index.l2_index + i);
        Qcow2Cluster c;
        /* A wrong entry further on must not be overwritten unseen, nor fail what comes before it. */
        if (qcow2_l2_decode(entry, &image->header, &c) || wished_kind(wish, &c, 0) != kind
            || (kind != FRESH && c.host_bytes != first->host_bytes + (i << image->geo.cluster_bits)))
            break;
        same += alike(wish, &c, 0, subs);
    }
    *n = MIN(*n, same);
    return TRUE;
}

/* The subclusters whose bytes move when the cluster gets a new place. */
static guint32
moved_subs(const Qcow2Image *image, const Qcow2Cluster *c)
{
    return c->compressed ? qcow2_subs_all(&image->header) : c->data;
}

/* New clusters for @n subclusters from the wish's first on, or for fewer. The place also takes in what the
 * old clusters at both its ends hold beside them, as far as that goes. */
static gboolean
place_fresh(Qcow2Image *image, const Wish *wish, const Qcow2Cluster *first, guint64 n, Place *place,
            GError **error)
{
    const guint subs = image->geo.subs;
    guint64 clusters = num_div_up(wish->sub + n, subs), got = clusters;
    guint64 cluster = place->at.bytes >> image->geo.cluster_bits; /* in a data file, at the guest's offset */
    guint64 from = wish->sub, to = wish->sub + n;
    Qcow2Cluster last = *first;

    if (!qcow2_has_data_file(&image->header) && !qcow2_alloc(image, clusters, FALSE, &cluster, &got, error))
        return FALSE;
    to = MIN(to, got * subs);
    if (got > 1 && wish->table)
        qcow2_l2_decode(qcow2_l2_entry(&image->geo, wish->table, wish->index.l2_index + got - 1),
                        &image->header, &last);
    guint32 begin = moved_subs(image, first), end = moved_subs(image, &last);
    if (begin)
        from = MIN(from, (guint64) __builtin_ctz(begin));
    if (end)
        to = MAX(to, got * subs - (guint64) (__builtin_clz(end) - (32 - (gint) subs)));
    place->host = host_off((cluster << image->geo.cluster_bits) + (from << image->geo.sub_bits));
    place->at = guest_off(place->at.bytes - (wish->sub - from) * image->geo.sub_bytes);
    place->bytes = (to - from) << image->geo.sub_bits;
    return TRUE;
}

static gboolean
check_guard(Qcow2Image *image, guint64 host_bytes, guint64 n, guint64 guest_off, GError **error)
{
    if (qcow2_has_data_file(&image->header)
        || !qcow2_guard_holds(&image->guard, host_bytes >> image->geo.cluster_bits, n))
        return TRUE;
    return qcow2_corrupt_locked(image, error,
                                "guest offset %" G_GUINT64_FORMAT
                                ": data is mapped to byte %" G_GUINT64_FORMAT ", where metadata lies",
                                guest_off, host_bytes);
}

static gboolean
prepare_locked(Qcow2Image *image, guint64 at, guint64 max_bytes, gboolean moves, Place *place, GError **error)
{
    const Qcow2Geometry *geo = &image->geo;
    guint64 start = num_align_down(at, geo->sub_bytes), inside = at - start;
    guint64 clusters_end = num_align_up(at + max_bytes, geo->cluster_bytes);
    Wish wish = { .index = qcow2_index(geo, at), .sub = qcow2_sub(geo, at), .moves = moves };
    Qcow2Table *table;
    Qcow2Cluster first;
    guint64 n;

    const Place *ahead = held_in(image, num_align_down(at, geo->cluster_bytes), clusters_end);
    if (ahead) /* the first cluster is nobody's: the caller waited */
        max_bytes = MIN(max_bytes, num_align_down(ahead->at.bytes, geo->cluster_bytes) - at);
    wish.want = num_div_up(inside + max_bytes, geo->sub_bytes);
    if (!qcow2_l2_get_locked(image, wish.index.l1_index, &table, error))
        return FALSE;
    wish.table = table;
    if (!stretch(image, &wish, &first, &n, error))
        return FALSE;
    WriteKind kind = wished_kind(&wish, &first, wish.sub);
    guint64 host = first.host_bytes + (start & (geo->cluster_bytes - 1));
    guint64 clusters = num_div_up(wish.sub + n, geo->subs);
    if (kind != FRESH && !check_guard(image, first.host_bytes, clusters, start, error))
        return FALSE;
    if (kind == IN_PLACE) {
        *place = (Place){ .at = guest_off(at),
                          .host = host_off(host + inside),
                          .bytes = MIN((n << geo->sub_bits) - inside, max_bytes),
                          .in_place = TRUE };
        return TRUE;
    }
    /* The table that commit will change is made now, so that commit cannot run out of space. */
    if (!qcow2_l2_writable_locked(image, wish.index.l1_index, &table, error))
        return FALSE;
    wish.table = table;
    *place = (Place){ .at = guest_off(start), .host = host_off(host), .bytes = n << geo->sub_bits };
    return kind != FRESH || place_fresh(image, &wish, &first, n, place, error);
}

static gboolean
prepare(Qcow2Image *image, GuestOff at, guint64 max_bytes, gboolean moves, Place *place, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
    guint64 start = num_align_down(at.bytes, image->geo.cluster_bytes);

    qcow2_wait_places_locked(image, start, start + image->geo.cluster_bytes);
    if (!qcow2_begin_write_locked(image, error) || !qcow2_bitmaps_begin_locked(image, error)
        || !qcow2_settle_locked(image, error))
        return FALSE;
    max_bytes = qcow2_bitmaps_room_locked(image, at.bytes, max_bytes);
    if (!prepare_locked(image, at.bytes, max_bytes, moves, place, error))
        return FALSE;
    qcow2_bitmaps_mark_locked(image, at.bytes, MIN(max_bytes, place->at.bytes + place->bytes - at.bytes));
    if (!place->in_place)
        hold(image, place);
    image->moves = image->moves || moves;
    return TRUE;
}

gboolean
qcow2_prepare(FormatImage *format, GuestOff at, guint64 max_bytes, Place *place, GError **error)
{
    return prepare(qcow2_image(format), at, max_bytes, FALSE, place, error);
}

gboolean
qcow2_prepare_new(FormatImage *format, GuestOff at, guint64 max_bytes, Place *place, GError **error)
{
    Qcow2Image *image = qcow2_image(format);

    return prepare(image, at, max_bytes, !qcow2_has_data_file(&image->header), place, error);
}

/* The entry at @index as it is when subclusters [from, to) have their bytes in the cluster at @host. */
static void
publish_cluster(Qcow2Image *image, Qcow2Table *table, guint64 l2_index, guint64 host, guint32 written)
{
    Qcow2Entry old = qcow2_l2_entry(&image->geo, table, l2_index);
    Qcow2Cluster c;

    /* What is wrong was not given out as a place. */
    if (qcow2_l2_decode(old, &image->header, &c))
        c = (Qcow2Cluster){ 0 };
    gboolean stays = c.placed && !c.compressed && c.host_bytes == host;
    if (!stays)
        qcow2_refcount_release_later(image, &image->header, old);
    Qcow2Cluster new = {
        .placed = TRUE,
        .copied = TRUE,
        .host_bytes = host,
        .data = written | (stays ? c.data : 0),
        .zeros = c.zeros & ~written,
    };
    qcow2_l2_set(image, table, l2_index, qcow2_l2_encode(&new, &image->header));
}

static gboolean
commit_locked(Qcow2Image *image, const Place *place, GError **error)
{
    const Qcow2Geometry *geo = &image->geo;
    guint64 at = place->at.bytes, end = at + place->bytes;
    guint64 host = num_align_down(place->host.bytes, geo->cluster_bytes);
    guint64 l1_index = qcow2_index(geo, at).l1_index;
    Qcow2Table *table;

    if (image->broken)
        return fail(error, KHO_ERROR_IO, "%s takes no more writes: an earlier flush failed",
                    image->base.file->label);
    if (!qcow2_l2_writable_locked(image, l1_index, &table, error))
        return FALSE;
    for (guint64 next; at < end; at = next, host += geo->cluster_bytes) {
        next = MIN(num_align_down(at, geo->cluster_bytes) + geo->cluster_bytes, end);
        guint from = qcow2_sub(geo, at), to = qcow2_sub(geo, next - 1) + 1;
        publish_cluster(image, table, qcow2_index(geo, at).l2_index, host, qcow2_subs_mask(from, to));
    }
    return TRUE;
}

/* Was this place mapped (as space kept) before prepare? Then it stays so. */
static gboolean
is_reuse(Qcow2Image *image, const Place *place)
{
    Qcow2Index index = qcow2_index(&image->geo, place->at.bytes);
    Qcow2Table *table;
    Qcow2Cluster c;

    return qcow2_l2_get_locked(image, index.l1_index, &table, NULL) && table
           && !qcow2_l2_decode(qcow2_l2_entry(&image->geo, table, index.l2_index), &image->header, &c)
           && !c.compressed && c.host_bytes == num_align_down(place->host.bytes, image->geo.cluster_bytes);
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
    guint bits = image->geo.cluster_bits;
    guint64 first = place->host.bytes >> bits, last = (place->host.bytes + place->bytes - 1) >> bits;
    /* No entry has named the clusters, on disk or in memory: they are free at once. A failure leaks them. */
    if (!qcow2_has_data_file(&image->header) && !is_reuse(image, place))
        qcow2_refcount_lower(image, first, last - first + 1, NULL);
    let_go(image, place);
}

/* Of the subclusters of one cluster that are @asked to: which are to become zeros (the others read so), and
 * where the first one is that cannot, since only a part of it is asked for (@whole are the others) or nothing
 * in the format says zero. */
static guint32
zeros_of(const Qcow2Image *image, const Qcow2Cluster *c, guint32 asked, guint32 whole, guint *stop)
{
    const guint32 all = qcow2_subs_all(&image->header);
    gboolean has_backing = qcow2_has_below(image);
    gboolean can_flag = image->header.version >= 3 || !has_backing;
    guint32 other = c->compressed ? all : has_backing ? ~c->zeros : c->data;
    guint32 wanted = asked & other, can = can_flag ? whole : 0;

    /* Compressed bytes go as a whole. */
    if (c->compressed && (can & all) != all)
        can = 0;
    guint32 cannot = wanted & ~can;
    *stop = cannot ? (guint) __builtin_ctz(cannot) : image->geo.subs;
    return wanted & can & qcow2_subs_mask(0, *stop);
}

/* Space goes where no subcluster has data in it any more, but for what lies in a data file. */
static void
set_zeros(Qcow2Image *image, Qcow2Table *table, guint64 l2_index, Qcow2Cluster c, guint32 zeros)
{
    const guint32 all = qcow2_subs_all(&image->header);
    gboolean keeps_place = c.placed && qcow2_has_data_file(&image->header);
    gboolean loses_place = c.compressed || (!keeps_place && (c.data & all & ~zeros) == 0);

    if (loses_place)
        qcow2_refcount_release_later(image, &image->header, qcow2_l2_entry(&image->geo, table, l2_index));
    Qcow2Cluster new = {
        .placed = !loses_place,
        .copied = !loses_place && c.copied,
        .host_bytes = loses_place ? 0 : c.host_bytes,
        .data = loses_place ? 0 : c.data & ~zeros,
        .zeros = image->header.version >= 3 ? c.zeros | zeros : 0,
    };
    qcow2_l2_set(image, table, l2_index, qcow2_l2_encode(&new, &image->header));
}

/* In a data file zeros are made before the entry says so: one that is raw reads so by itself, and another
 * gives its space back. Nobody has been promised the old bytes any more, and while the place is held nobody
 * writes new ones there. */
static gboolean
zero_in_data_file(Qcow2Image *image, const Qcow2Cluster *c, guint64 start, guint32 zeros, GError **error)
{
    const BlkZeroMode mode = qcow2_data_is_raw(image) ? BLK_ZERO_MAY_PUNCH : BLK_ZERO_GIVE_BACK;
    guint32 punched = zeros & c->data;

    for (guint sub = 0, n; sub < image->geo.subs; sub += n) {
        n = qcow2_subs_run(punched, sub, image->geo.subs);
        guint64 at = start + sub * image->geo.sub_bytes;
        guint64 end = MIN(at + n * image->geo.sub_bytes, image->base.guest_bytes);
        if (n > 0 && at < end && !blk_zero(image->base.data, at, end - at, mode, error))
            return FALSE;
        n = MAX(n, 1);
    }
    return TRUE;
}

/* Guest bytes under one L2 table from @at on; *covered is where they end, at the end of a subcluster. */
static gboolean
zero_in_table(Qcow2Image *image, guint64 at, guint64 end, guint64 *covered, GError **error)
{
    const Qcow2Geometry *geo = &image->geo;
    Qcow2Index index = qcow2_index(geo, at);
    Qcow2Table *table;

    if (!qcow2_l2_get_locked(image, index.l1_index, &table, error))
        return FALSE;
    for (*covered = at; *covered < end && index.l2_index < geo->l2_entries; index.l2_index++) {
        guint64 start = num_align_down(*covered, geo->cluster_bytes);
        guint64 cluster_end = MIN(end, start + geo->cluster_bytes);
        /* The disk's last cluster counts as whole. */
        gboolean is_last = end == image->base.guest_bytes && cluster_end == end;
        guint from = qcow2_sub(geo, *covered), stop;
        guint to = is_last ? geo->subs : qcow2_sub(geo, cluster_end - 1) + 1;
        guint whole_from = (guint) num_div_up(MAX(at, start) - start, geo->sub_bytes);
        guint whole_to = is_last ? geo->subs : (guint) ((cluster_end - start) >> geo->sub_bits);
        Qcow2Cluster c = { 0 };

        if (table && !qcow2_l2_cluster_locked(image, table, index, &c, error))
            return FALSE;
        guint32 whole = whole_from < whole_to ? qcow2_subs_mask(whole_from, whole_to) : 0;
        guint32 zeros = zeros_of(image, &c, qcow2_subs_mask(from, to), whole, &stop);
        if (zeros) {
            if (!qcow2_l2_writable_locked(image, index.l1_index, &table, error)
                || (qcow2_has_data(image) && !zero_in_data_file(image, &c, start, zeros, error)))
                return FALSE;
            set_zeros(image, table, index.l2_index, c, zeros);
        }
        *covered = stop < geo->subs ? MIN(start + stop * geo->sub_bytes, cluster_end) : cluster_end;
        if (stop < geo->subs)
            break;
    }
    return TRUE;
}

gboolean
qcow2_zero(FormatImage *format, GuestOff at, guint64 len, guint64 *done, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
    guint64 cluster = image->geo.cluster_bytes;
    guint64 covered;

    qcow2_wait_places_locked(image, num_align_down(at.bytes, cluster), num_align_up(at.bytes + len, cluster));
    if (!qcow2_begin_write_locked(image, error) || !qcow2_bitmaps_begin_locked(image, error))
        return FALSE;
    len = qcow2_bitmaps_room_locked(image, at.bytes, len);
    qcow2_bitmaps_mark_locked(image, at.bytes, len);
    if (!zero_in_table(image, at.bytes, at.bytes + len, &covered, error)
        || !qcow2_settle_locked(image, error))
        return FALSE;
    *done = covered > at.bytes ? covered - at.bytes : 0;
    return TRUE;
}
