#include "image/lineage.h"

#include "base/error.h"
#include "base/num.h"
#include "image/stretch.h"
#include "qcow2/qcow2.h"

#include <string.h>

/* Of the target's clusters: two bitmaps of 2 MiB. */
#define WINDOW_CLUSTERS ((guint64) 1 << 24)
/* Places of the source that were met, by a hash: one that was not met may seem to have been, which costs a
 * search. 4 MiB. */
#define MET_BITS 25

struct Lineage {
    KhoImage *source, *target;
    guint64 window_bytes;
    guint source_shift;    /* of the source's subclusters */
    guint8 *met;           /* bits, by hashes */
    guint8 *wanted, *done; /* a bit for each of the target's clusters in the window */
    guint64 from, to;      /* the window */
    guint64 n_wanted;
    const KhoJob *job;
};

Lineage *
lineage_new(KhoImage *source, KhoImage *target)
{
    Lineage *s = g_new0(Lineage, 1);

    *s = (Lineage){ .source = source, .target = target };
    s->window_bytes = WINDOW_CLUSTERS * target->cluster_bytes;
    s->source_shift = (guint) __builtin_ctz(source->subcluster_bytes);
    s->met = g_malloc0(((gsize) 1 << MET_BITS) / 8);
    s->wanted = g_malloc0(WINDOW_CLUSTERS / 8);
    s->done = g_malloc0(WINDOW_CLUSTERS / 8);
    return s;
}

void
lineage_free(Lineage *s)
{
    g_free(s->met);
    g_free(s->wanted);
    g_free(s->done);
    g_free(s);
}

guint64
lineage_window_bytes(const Lineage *s)
{
    return s->window_bytes;
}

static gboolean
bit_is_set(const guint8 *bits, guint64 n)
{
    return bits[n / 8] >> n % 8 & 1;
}

static void
bit_set(guint8 *bits, guint64 n)
{
    bits[n / 8] |= (guint8) (1u << n % 8);
}

static void
bit_clear(guint8 *bits, guint64 n)
{
    bits[n / 8] &= (guint8) ~(1u << n % 8);
}

/* --- what was met --- */

/* Where what is read at @off comes from: bytes of the file; or, in a hole, what lies below at this place. */
static guint64
hash_of(const Lineage *s, const Run *run, guint64 off, guint64 passed)
{
    guint64 place = run->kind == RUN_HOLE         ? ~(off + passed) >> s->source_shift
                    : run->kind == RUN_COMPRESSED ? run->host.bytes
                                                  : (run->host.bytes + passed) >> s->source_shift;

    return (place * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15)) >> (64 - MET_BITS);
}

/* Is it worth looking for? Zeros are made as quickly. */
static gboolean
is_something(const Lineage *s, const Run *run)
{
    return run->kind == RUN_DATA || run->kind == RUN_COMPRESSED
           || (run->kind == RUN_HOLE && s->source->backing);
}

/* By subclusters: @step is how far the next one is. */
static guint64
step_of(const Lineage *s, guint64 off, guint64 left)
{
    guint64 unit = s->source->subcluster_bytes;

    return MIN(unit - off % unit, left);
}

static void
note_run(Lineage *s, const Run *run, guint64 off)
{
    if (!is_something(s, run))
        return;
    for (guint64 at = 0; at < run->bytes; at += step_of(s, off + at, run->bytes - at))
        bit_set(s->met, hash_of(s, run, off, at));
}

gboolean
lineage_note(Lineage *s, const LineagePiece *piece, GError **error)
{
    for (guint64 at = piece->from, left; at < piece->to;) {
        left = piece->to - at;
        Stretch stretch = { .start = at, .bytes = left, .kind = STRETCH_DATA };
        Run run;

        if (piece->before && !stretch_changed(s->source, piece->before, at, left, &stretch, error))
            return FALSE;
        guint64 end = at + stretch.bytes;
        for (; stretch.kind == STRETCH_DATA && at < end; at += run.bytes) {
            if (!format_map(s->source->format, guest_off(at), end - at, &run, error))
                return FALSE;
            note_run(s, &run, at);
        }
        at = end;
    }
    return TRUE;
}

static gboolean
was_met(const Lineage *s, const Run *run, guint64 off)
{
    for (guint64 at = 0; at < run->bytes; at += step_of(s, off + at, run->bytes - at))
        if (!bit_is_set(s->met, hash_of(s, run, off, at)))
            return FALSE;
    return TRUE;
}

/* --- what is wanted --- */

static guint64
cluster_end(const Lineage *s, guint64 cluster)
{
    return MIN(s->from + (cluster + 1) * s->target->cluster_bytes, s->to);
}

/* May an earlier state have all of one of the target's clusters? */
static gboolean
is_candidate(const Lineage *s, guint64 cluster, gboolean *may, GError **error)
{
    guint64 end = cluster_end(s, cluster);
    Run run;

    *may = FALSE;
    for (guint64 at = s->from + cluster * s->target->cluster_bytes; at < end; at += run.bytes) {
        if (!format_map(s->source->format, guest_off(at), end - at, &run, error))
            return FALSE;
        if (!is_something(s, &run))
            continue;
        *may = was_met(s, &run, at);
        if (!*may)
            return TRUE;
    }
    return TRUE;
}

static gboolean
find_wanted(Lineage *s, FormatImage *before, GError **error)
{
    guint64 cluster_bytes = s->target->cluster_bytes, next = 0;
    Stretch stretch;

    for (guint64 at = s->from; at < s->to; at += stretch.bytes) {
        if (kho_job_is_cancelled(s->job))
            return fail(error, KHO_ERROR_CANCELLED, "the copy of %s was cancelled", s->source->path);
        if (!stretch_changed(s->source, before, at, s->to - at, &stretch, error))
            return FALSE;
        if (stretch.kind != STRETCH_DATA)
            continue;
        guint64 last = (at + stretch.bytes - 1 - s->from) / cluster_bytes;
        for (next = MAX(next, (at - s->from) / cluster_bytes); next <= last; next++) {
            gboolean may;
            if (!is_candidate(s, next, &may, error))
                return FALSE;
            if (may)
                bit_set(s->wanted, next);
            s->n_wanted += may;
        }
    }
    return TRUE;
}

/* --- what is found --- */

/* An earlier snapshot: of the source, and of the target. */
typedef struct {
    FormatImage *theirs, *mine;
} Earlier;

/* Does it hold the same in all of a cluster? One that is cut by the disk's end is the same only where both
 * disks end there, since another disk has more in it. */
static gboolean
is_same(const Lineage *s, FormatImage *theirs, guint64 cluster, gboolean *same, GError **error)
{
    guint64 end = cluster_end(s, cluster), size = kho_image_size_bytes(s->source);
    gboolean is_cut = end == size && size % s->target->cluster_bytes != 0;

    *same = is_cut ? theirs->guest_bytes == size : theirs->guest_bytes >= end;
    for (guint64 at = s->from + cluster * s->target->cluster_bytes; *same && at < end;) {
        Run is, was;

        if (!format_map(s->source->format, guest_off(at), end - at, &is, error)
            || !format_map(theirs, guest_off(at), is.bytes, &was, error))
            return FALSE;
        *same = stretch_is_same_run(&is, &was);
        at += was.bytes;
    }
    return TRUE;
}

/* The clusters [first, end), which were found to be the same. */
static gboolean
take(Lineage *s, const Earlier *earlier, guint64 first, guint64 end, GError **error)
{
    guint64 at = s->from + first * s->target->cluster_bytes;

    if (first == end)
        return TRUE;
    for (guint64 i = first; i < end; i++) {
        bit_set(s->done, i);
        bit_clear(s->wanted, i);
    }
    s->n_wanted -= end - first;
    return qcow2_snapshot_share(s->target->format, earlier->mine, guest_off(at), cluster_end(s, end - 1) - at,
                                error);
}

static gboolean
look_in(Lineage *s, const Earlier *earlier, GError **error)
{
    guint64 n = num_div_up(s->to - s->from, s->target->cluster_bytes), first = 0;

    for (guint64 i = 0; i < n; i++) {
        gboolean same = FALSE;

        if (i % 8 == 0 && first == i && s->wanted[i / 8] == 0) {
            first = i + 8;
            i += 7;
            continue;
        }
        if (bit_is_set(s->wanted, i) && !is_same(s, earlier->theirs, i, &same, error))
            return FALSE;
        if (same)
            continue;
        if (!take(s, earlier, first, i, error))
            return FALSE;
        first = i + 1;
    }
    return first >= n || take(s, earlier, first, n, error);
}

static gboolean
look_in_snapshot(Lineage *s, guint index, GError **error)
{
    FormatImage *whole = s->source->whole ? s->source->whole : s->source->format;
    Earlier earlier = { .theirs = qcow2_snapshot_open_view(whole, index, error) };

    if (!earlier.theirs)
        return FALSE;
    earlier.mine = qcow2_snapshot_open_view(s->target->format, index, error);
    gboolean done = earlier.mine && look_in(s, &earlier, error);
    format_close(earlier.theirs, NULL);
    if (earlier.mine)
        format_close(earlier.mine, NULL);
    return done;
}

gboolean
lineage_link(Lineage *s, const LineagePiece *piece, const KhoJob *job, const guint8 **done, GError **error)
{
    gsize bytes = num_div_up(num_div_up(piece->to - piece->from, s->target->cluster_bytes), 8);

    g_assert(bytes <= WINDOW_CLUSTERS / 8 && piece->from % s->target->cluster_bytes == 0);
    s->from = piece->from;
    s->to = piece->to;
    s->n_wanted = 0;
    s->job = job;
    memset(s->wanted, 0, bytes);
    memset(s->done, 0, bytes);
    *done = NULL;
    if (piece->state < 2) /* nothing is older than what came last */
        return TRUE;
    if (!find_wanted(s, piece->before, error))
        return FALSE;
    for (guint i = piece->state - 1; s->n_wanted > 0 && i-- > 0;) {
        if (kho_job_is_cancelled(job))
            return fail(error, KHO_ERROR_CANCELLED, "the copy of %s was cancelled", s->source->path);
        if (!look_in_snapshot(s, i, error))
            return FALSE;
        *done = s->done;
    }
    return TRUE;
}
