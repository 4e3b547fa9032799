/* Comparing two images: their maps are walked side by side, and workers read and compare what is data in at
 * least one of them. Pieces are handed out in the order of the disk, so that the first difference is known
 * once all pieces before it are done. */
#include "base/error.h"
#include "base/num.h"
#include "image/copy.h"

#include <kho/image_compare.h>
#include <string.h>

#define PIECE_BYTES   COPY_CHUNK_BYTES
#define SECTOR_BYTES  512
#define MAP_MAX_BYTES GIB
#define TICK_MS       100

typedef struct {
    KhoImage *image;
    KhoMapEntry run; /* the last one looked at */
} Side;

typedef struct {
    const KhoImageCompare *options;
    const KhoJob *job;
    guint64 total_bytes; /* of the longer one */

    GMutex mutex;
    GCond ended;
    /* Under mutex. */
    Side sides[2];
    guint64 next, done;
    KhoImageDifference found; /* the first one so far */
    guint running;
    GError *error;
} Compare;

/* Where a side's bytes of a piece are. */
typedef struct {
    gboolean zero;   /* nowhere: they are zeros */
    BlkStore *store; /* plain, at @host; NULL: to be read through the chain */
    guint64 host;
} Bytes;

typedef struct {
    guint64 start, bytes;
    Bytes sides[2];
} Piece;

static void
note_locked(Compare *c, KhoCompareKind kind, guint64 at)
{
    if (c->found.kind != KHO_COMPARE_SAME && c->found.at_bytes <= at)
        return;
    c->found.kind = kind;
    c->found.at_bytes = at;
}

static gboolean
is_over_locked(Compare *c)
{
    return c->error || kho_job_is_cancelled(c->job) || c->next >= c->total_bytes
           || (c->found.kind != KHO_COMPARE_SAME && c->next >= c->found.at_bytes);
}

/* What @side says at @at, up to its end; past that there is a hole. */
static gboolean
look_locked(Compare *c, Side *side, guint64 at, KhoMapEntry *entry, GError **error)
{
    guint64 size = kho_image_size_bytes(side->image);
    guint64 passed = at - side->run.start_bytes;

    if (at >= size) {
        *entry = (KhoMapEntry){ .start_bytes = at, .length_bytes = c->total_bytes - at, .reads_zero = TRUE };
        return TRUE;
    }
    if (at < side->run.start_bytes || passed >= side->run.length_bytes) {
        passed = 0;
        if (!kho_image_map(side->image, at, MIN(size - at, MAP_MAX_BYTES), &side->run, error))
            return FALSE;
    }
    *entry = side->run;
    entry->start_bytes = at;
    entry->length_bytes -= passed;
    entry->host_offset_bytes += passed;
    return TRUE;
}

/* The same bytes of the same file? */
static gboolean
is_one_place(Compare *c, const KhoMapEntry e[2])
{
    const KhoImage *a = image_owner(c->sides[0].image, &e[0]), *b = image_owner(c->sides[1].image, &e[1]);

    return e[0].kind == KHO_MAP_DATA && e[1].kind == KHO_MAP_DATA && e[0].has_offset && e[1].has_offset
           && e[0].host_offset_bytes == e[1].host_offset_bytes && a->identity.st_ino != 0
           && image_same_file(&a->identity, &b->identity) && a->format->data == a->format->file
           && b->format->data == b->format->file;
}

static gboolean
is_of_one_status(const KhoMapEntry e[2])
{
    return e[0].reads_zero == e[1].reads_zero && e[0].has_offset == e[1].has_offset
           && (e[0].kind == KHO_MAP_HOLE) == (e[1].kind == KHO_MAP_HOLE)
           && (e[0].kind == KHO_MAP_ZERO) == (e[1].kind == KHO_MAP_ZERO);
}

/* What the map says of plain data is not looked up again. */
static Bytes
bytes_of(Compare *c, guint side, const KhoMapEntry *e)
{
    Bytes bytes = { .zero = e->reads_zero };

    if (e->kind == KHO_MAP_DATA && e->has_offset && !e->reads_zero) {
        bytes.store = image_owner(c->sides[side].image, e)->format->data;
        bytes.host = e->host_offset_bytes;
    }
    return bytes;
}

/* The next piece that must be read; *piece has no bytes when there is none. */
static gboolean
take_locked(Compare *c, Piece *piece, GError **error)
{
    *piece = (Piece){ 0 };
    while (!is_over_locked(c)) {
        KhoMapEntry e[2];

        if (!look_locked(c, &c->sides[0], c->next, &e[0], error)
            || !look_locked(c, &c->sides[1], c->next, &e[1], error))
            return FALSE;
        guint64 bytes = MIN(e[0].length_bytes, e[1].length_bytes);

        if (c->options->strict && !is_of_one_status(e)) {
            note_locked(c, KHO_COMPARE_STATUS, c->next);
            break;
        }
        if ((e[0].reads_zero && e[1].reads_zero) || is_one_place(c, e)) {
            c->next += bytes;
            c->done += bytes;
            continue;
        }
        *piece =
            (Piece){ c->next, MIN(bytes, PIECE_BYTES), { bytes_of(c, 0, &e[0]), bytes_of(c, 1, &e[1]) } };
        c->next += piece->bytes;
        break;
    }
    return TRUE;
}

/* Where within @len bytes, a sector's beginning, they first differ; @len: nowhere. @b NULL: from zeros. */
static guint64
first_difference(const guint8 *a, const guint8 *b, guint64 len)
{
    if (b ? memcmp(a, b, len) == 0 : copy_is_zero(a, len))
        return len;
    for (guint64 at = 0; at < len; at += SECTOR_BYTES) {
        guint64 part = MIN(SECTOR_BYTES, len - at);

        if (b ? memcmp(a + at, b + at, part) != 0 : !copy_is_zero(a + at, part))
            return at;
    }
    return len;
}

static gboolean
compare_piece(Compare *c, const Piece *piece, guint8 *buffers[2], GError **error)
{
    for (guint side = 0; side < 2; side++) {
        const Bytes *from = &piece->sides[side];
        gboolean good =
            from->zero
            || (from->store
                    ? blk_pread_padded(from->store, from->host, buffers[side], piece->bytes, error)
                    : kho_image_read(c->sides[side].image, piece->start, buffers[side], piece->bytes, error));

        if (!good) {
            g_prefix_error(error, "at byte %" G_GUINT64_FORMAT ": ", piece->start);
            return FALSE;
        }
    }
    const guint8 *a = piece->sides[0].zero ? buffers[1] : buffers[0];
    const guint8 *b = piece->sides[0].zero || piece->sides[1].zero ? NULL : buffers[1];
    guint64 at = first_difference(a, b, piece->bytes);

    if (at < piece->bytes) {
        g_mutex_lock(&c->mutex);
        note_locked(c, KHO_COMPARE_CONTENT, piece->start + at);
        g_mutex_unlock(&c->mutex);
    }
    return TRUE;
}

static gpointer
work(gpointer data)
{
    Compare *c = data;
    guint8 *buffers[2] = { copy_buffer(PIECE_BYTES), copy_buffer(PIECE_BYTES) };

    g_mutex_lock(&c->mutex);
    for (;;) {
        GError *error = NULL;
        Piece piece;
        gboolean taken = take_locked(c, &piece, &error);

        if (taken && piece.bytes == 0)
            break;
        g_mutex_unlock(&c->mutex);
        gboolean good = taken && compare_piece(c, &piece, buffers, &error);
        g_mutex_lock(&c->mutex);
        c->done += piece.bytes;
        if (!good && !c->error)
            c->error = g_steal_pointer(&error);
        g_clear_error(&error);
        if (!good)
            break;
    }
    c->running--;
    g_cond_signal(&c->ended);
    g_mutex_unlock(&c->mutex);
    g_aligned_free(buffers[0]);
    g_aligned_free(buffers[1]);
    return NULL;
}

/* Waits for the workers, telling progress ten times a second. */
static void
follow(Compare *c)
{
    g_mutex_lock(&c->mutex);
    gint64 tick = g_get_monotonic_time() + TICK_MS * G_TIME_SPAN_MILLISECOND;
    while (c->running > 0) {
        if (g_cond_wait_until(&c->ended, &c->mutex, tick))
            continue;
        guint64 done = c->done;
        g_mutex_unlock(&c->mutex);
        if (c->job && c->job->progress)
            c->job->progress(done, c->total_bytes, c->job->data);
        g_mutex_lock(&c->mutex);
        tick = g_get_monotonic_time() + TICK_MS * G_TIME_SPAN_MILLISECOND;
    }
    g_mutex_unlock(&c->mutex);
}

static void
run_workers(Compare *c)
{
    GThread *threads[COPY_WORKERS_MAX];
    guint wanted = c->options->workers > 0 ? c->options->workers : g_get_num_processors();
    guint n = (guint) MIN(MIN(wanted, COPY_WORKERS_MAX), MAX(num_div_up(c->total_bytes, PIECE_BYTES), 1));

    c->running = n;
    for (guint i = 0; i < n; i++) {
        threads[i] = g_thread_try_new("compare", work, c, NULL);
        if (!threads[i])
            work(c); /* no thread to be had: this one does its share */
    }
    follow(c);
    for (guint i = 0; i < n; i++)
        if (threads[i])
            g_thread_join(threads[i]);
}

gboolean
kho_image_compare(KhoImage *a, KhoImage *b, const KhoImageCompare *options, KhoImageDifference *found,
                  const KhoJob *job, GError **error)
{
    guint64 a_bytes = kho_image_size_bytes(a), b_bytes = kho_image_size_bytes(b);
    Compare c = { .options = options,
                  .job = job,
                  .total_bytes = MAX(a_bytes, b_bytes),
                  .sides = { { .image = a }, { .image = b } },
                  .found.sizes_differ = a_bytes != b_bytes };

    if (options->strict && a_bytes != b_bytes) {
        *found = (KhoImageDifference){ .kind = KHO_COMPARE_SIZE, .sizes_differ = TRUE };
        return TRUE;
    }
    g_mutex_init(&c.mutex);
    g_cond_init(&c.ended);
    run_workers(&c);
    g_mutex_clear(&c.mutex);
    g_cond_clear(&c.ended);
    if (c.error) {
        g_propagate_error(error, c.error);
        return FALSE;
    }
    if (kho_job_is_cancelled(job))
        return fail(error, KHO_ERROR_CANCELLED, "cancelled: the comparison is not complete");
    if (job && job->progress && c.found.kind == KHO_COMPARE_SAME)
        job->progress(c.total_bytes, c.total_bytes, job->data);
    *found = c.found;
    return TRUE;
}
