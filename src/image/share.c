#include "image/share.h"

#include "base/num.h"
#include "image/survey.h"

/* One look gathers so many pieces at most: 3 MiB of memory. */
#define PIECES_MAX 65536
/* So many places of the target are held for one call; each is looked for among those that are held. */
#define BATCH_PLACES 128
/* What one call shares: a cancel is seen after seconds at most even where extents are tiny. */
#define BATCH_MAX_BYTES ((guint64) 256 << 20)
/* A piece so long is worth a call of its own, and stays where it is in the target. */
#define LONG_BYTES MIB

/* Bytes that lie in one row in a file of the source and are whole clusters of the target. */
typedef struct {
    guint64 start, bytes; /* from the start of the plan's range */
    guint64 host;
    KhoImage *owner;
} Piece;

/* Places that lie in one row, as what they are to hold does. */
typedef struct {
    Sharing *sharing;
    KhoImage *owner;
    guint64 from, to, bytes;
    guint n;
    Place places[BATCH_PLACES];
} Batch;

/* What a piece begins and ends at. */
static guint64
unit_of(const CopyPlan *plan)
{
    return MAX(plan->target->cluster_bytes, BLK_SHARE_BYTES);
}

static gboolean
is_possible(const CopyPlan *plan)
{
    const FormatImage *target = plan->target->format;

    /* What cannot be read is not noticed where nothing is read. */
    return plan->source && !plan->only_changes && !plan->compress && !plan->unreadable && !target->encrypted
           && target->data && blk_can_share(target->data) && plan->target_off % unit_of(plan) == 0;
}

void
sharing_init(Sharing *sharing, const CopyPlan *plan)
{
    *sharing = (Sharing){ .plan = plan, .cannot = !is_possible(plan) };
    sharing->ranges = g_array_new(FALSE, FALSE, sizeof(SharedRange));
}

void
sharing_clear(Sharing *sharing)
{
    g_clear_pointer(&sharing->ranges, g_array_unref);
}

/* --- which pieces there are --- */

/* What one look found. */
typedef struct {
    GArray *pieces;        /* of Piece */
    guint64 at;            /* how far it went */
    guint64 bytes;         /* of all pieces */
    gboolean left;         /* there is something else to be done */
    const KhoImage *owner; /* of the last piece */
    guint64 file_bytes;    /* how long its file is */
} Look;

/* How long the file is that @owner's data lies in; asked once for many pieces. */
static gboolean
measure_file(Look *look, const KhoImage *owner, GError **error)
{
    if (look->owner != owner && !blk_size(owner->format->data, &look->file_bytes, error))
        return FALSE;
    look->owner = owner;
    return TRUE;
}

/* The whole units in an entry that begins at @start; *piece has no bytes where there are none, or where
 * nothing can be shared. */
static gboolean
piece_of(const CopyPlan *plan, Look *look, guint64 start, const KhoMapEntry *entry, Piece *piece,
         GError **error)
{
    guint64 unit = unit_of(plan), end = start + entry->length_bytes;
    guint64 from = num_align_up(start, unit);
    guint64 host = entry->host_offset_bytes + (from - start);

    *piece = (Piece){ 0 };
    if (entry->kind != KHO_MAP_DATA || !entry->has_offset || entry->reads_zero || from >= end
        || host % BLK_SHARE_BYTES != 0)
        return TRUE;
    KhoImage *owner = image_owner(plan->source, entry);
    if (!owner->format->data || owner->format->encrypted)
        return TRUE;
    if (!measure_file(look, owner, error))
        return FALSE;
    guint64 most = MIN(end - from, look->file_bytes > host ? look->file_bytes - host : 0);
    *piece = (Piece){ .start = from, .bytes = num_align_down(most, unit), .host = host, .owner = owner };
    return TRUE;
}

/* From look->at on: one piece, or what is no piece. */
static gboolean
next_piece(const CopyPlan *plan, Look *look, const Stretch *stretch, Piece *piece, GError **error)
{
    guint64 most = MIN(plan->bytes - look->at, SURVEY_MAX_BYTES);
    gboolean in_part = plan->what != COPY_ALL;
    KhoMapEntry entry;

    *piece = (Piece){ 0 };
    if (in_part)
        most = MIN(most, stretch->start + stretch->bytes - look->at);
    if (in_part && stretch->kind != STRETCH_DATA) {
        look->left = look->left || stretch->kind != STRETCH_LEAVE;
        look->at += most;
        return TRUE;
    }
    if (!survey_run(plan, look->at, most, &entry, error)
        || !piece_of(plan, look, look->at, &entry, piece, error))
        return FALSE;
    if (piece->bytes != entry.length_bytes && !(entry.reads_zero && plan->target_is_zero))
        look->left = TRUE;
    look->at += entry.length_bytes;
    return TRUE;
}

static gint
by_place(gconstpointer a, gconstpointer b)
{
    const Piece *x = a, *y = b;

    if (x->owner != y->owner)
        return x->owner->depth < y->owner->depth ? -1 : 1;
    return x->host < y->host ? -1 : x->host > y->host;
}

/* --- sharing them --- */

static gboolean
commit_batch(Batch *batch, GError **error)
{
    Sharing *sharing = batch->sharing;
    const CopyPlan *plan = sharing->plan;
    gboolean done = TRUE;

    for (guint i = 0; i < batch->n; i++) {
        const Place *place = &batch->places[i];
        guint64 start = place->at.bytes - plan->target_off;
        SharedRange range = { start, start + place->bytes };

        if (!done)
            format_abandon(plan->target->format, place);
        else if ((done = format_commit(plan->target->format, place, error)))
            g_array_append_val(sharing->ranges, range);
    }
    return done;
}

static gboolean
flush_batch(Batch *batch, GError **error)
{
    const BlkShared from = { batch->owner ? batch->owner->format->data : NULL, batch->from, batch->bytes };
    FormatImage *target = batch->sharing->plan->target->format;
    gboolean shared = FALSE, ok = TRUE;

    if (batch->n == 0)
        return TRUE;
    ok = blk_share(target->data, batch->to, &from, &shared, error);
    if (shared) {
        batch->sharing->works = TRUE;
        ok = commit_batch(batch, error);
    } else {
        batch->sharing->cannot = TRUE;
        for (guint i = 0; i < batch->n; i++)
            format_abandon(target, &batch->places[i]);
    }
    batch->n = 0;
    batch->bytes = 0;
    return ok;
}

/* Takes a place for the front of @piece into the batch; *taken is 0 where what the target gives cannot be
 * shared into. */
static gboolean
take_place(Batch *batch, const Piece *piece, gboolean lies_alone, guint64 *taken, GError **error)
{
    const CopyPlan *plan = batch->sharing->plan;
    FormatImage *target = plan->target->format;
    guint64 off = plan->target_off + piece->start, most = MIN(piece->bytes, BATCH_MAX_BYTES);
    Place place;

    *taken = 0;
    /* A cluster of which the batch holds a part is let go first: prepare waits until nobody holds any of it.
     */
    if (off % plan->target->cluster_bytes != 0 && !flush_batch(batch, error))
        return FALSE;
    if (batch->sharing->cannot)
        return TRUE;
    /* Nothing is moved for a kernel that cannot share. */
    gboolean stays = lies_alone || !batch->sharing->works;
    if (!(stays ? format_prepare : format_prepare_new)(target, guest_off(off), most, &place, error))
        return FALSE;
    if (place.at.bytes != off || place.bytes > most || place.bytes % BLK_SHARE_BYTES != 0
        || place.host.bytes % BLK_SHARE_BYTES != 0) {
        format_abandon(target, &place);
        return TRUE;
    }
    gboolean goes_on = batch->owner == piece->owner && batch->from + batch->bytes == piece->host
                       && batch->to + batch->bytes == place.host.bytes;
    if (batch->n == BATCH_PLACES || batch->bytes + place.bytes > BATCH_MAX_BYTES || !goes_on) {
        gboolean flushed = flush_batch(batch, error);
        if (!flushed || batch->sharing->cannot) {
            format_abandon(target, &place);
            return flushed;
        }
        batch->owner = piece->owner;
        batch->from = piece->host;
        batch->to = place.host.bytes;
    }
    batch->places[batch->n++] = place;
    batch->bytes += place.bytes;
    *taken = place.bytes;
    /* The first shows whether the kernel can, before much is prepared. */
    return batch->sharing->works || flush_batch(batch, error);
}

static gboolean
lay(Batch *batch, const Piece *piece, gboolean lies_alone, GError **error)
{
    Piece rest = *piece;
    guint64 taken;

    do {
        if (!take_place(batch, &rest, lies_alone, &taken, error))
            return FALSE;
        rest.start += taken;
        rest.host += taken;
        rest.bytes -= taken;
    } while (taken > 0 && rest.bytes > 0 && !batch->sharing->cannot);
    return TRUE;
}

static gboolean
are_neighbours(const Piece *a, const Piece *b)
{
    return a->owner == b->owner && a->host + a->bytes == b->host;
}

/* Small pieces that lie in one row in the source get one in the target too, also where the target has a place
 * for them: they come from all over the disk, and one by one they would cost a call each. */
static gboolean
share_pieces(Sharing *sharing, GArray *pieces, GError **error)
{
    Batch batch = { .sharing = sharing };
    const Piece *all = (const Piece *) pieces->data;
    gboolean done = TRUE;

    g_array_sort(pieces, by_place);
    for (guint i = 0; done && i < pieces->len && !sharing->cannot; i++) {
        gboolean in_row = (i > 0 && are_neighbours(&all[i - 1], &all[i]))
                          || (i + 1 < pieces->len && are_neighbours(&all[i], &all[i + 1]));

        if (kho_job_is_cancelled(sharing->plan->job))
            break;
        done = lay(&batch, &all[i], !in_row || all[i].bytes >= LONG_BYTES, error);
    }
    /* What is prepared is ended in every case. */
    return flush_batch(&batch, done ? error : NULL) && done;
}

static gint
by_start(gconstpointer a, gconstpointer b)
{
    const SharedRange *x = a, *y = b;

    return x->start < y->start ? -1 : x->start > y->start;
}

static guint64
shared_bytes(const Sharing *sharing)
{
    guint64 bytes = 0;

    for (guint i = 0; i < sharing->ranges->len; i++) {
        const SharedRange *range = &g_array_index(sharing->ranges, SharedRange, i);
        bytes += range->end - range->start;
    }
    return bytes;
}

static gboolean
gather(Sharing *sharing, guint most, Look *look, GError **error)
{
    const CopyPlan *plan = sharing->plan;
    Stretch stretch = { 0 };
    Piece piece;

    while (look->at < plan->bytes && look->pieces->len < most && !kho_job_is_cancelled(plan->job)) {
        if (plan->what != COPY_ALL && look->at >= stretch.start + stretch.bytes
            && !survey_stretch(plan, look->at, MIN(plan->bytes - look->at, SURVEY_MAX_BYTES), &stretch,
                               error))
            return FALSE;
        if (!next_piece(plan, look, &stretch, &piece, error))
            return FALSE;
        look->bytes += piece.bytes;
        if (piece.bytes > 0)
            g_array_append_val(look->pieces, piece);
    }
    return TRUE;
}

/* The first piece alone shows whether the kernel can, before more is looked for. */
static gboolean
look_and_share(Sharing *sharing, Look *look, GError **error)
{
    gboolean again;

    do {
        again = !sharing->works;
        g_array_set_size(look->pieces, 0);
        if (!gather(sharing, sharing->works ? PIECES_MAX : 1, look, error)
            || !share_pieces(sharing, look->pieces, error))
            return FALSE;
    } while (again && sharing->works);
    return TRUE;
}

gboolean
sharing_go_on(Sharing *sharing, guint64 from, GError **error)
{
    const CopyPlan *plan = sharing->plan;
    g_autoptr(GArray) pieces = g_array_new(FALSE, FALSE, sizeof(Piece));
    Look look = { .pieces = pieces, .at = from };

    g_array_set_size(sharing->ranges, 0);
    sharing->from = from;
    sharing->to = plan->bytes;
    sharing->all = FALSE;
    if (sharing->cannot)
        return TRUE;
    if (!look_and_share(sharing, &look, error))
        return FALSE;
    if (!sharing->cannot && look.at < plan->bytes)
        sharing->to = num_align_down(look.at, unit_of(plan));
    g_array_sort(sharing->ranges, by_start);
    sharing->all = !look.left && shared_bytes(sharing) == look.bytes;
    return TRUE;
}
