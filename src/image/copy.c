#include "image/copy.h"

#include "base/clone.h"
#include "base/error.h"
#include "base/num.h"
#include "image/stretch.h"
#include "image/units.h"

#include <string.h>

/* Offsets that the kernel shares blocks at; every file system that shares has blocks of this size or divides
 * it. */
#define SHARE_UNIT_BYTES 4096
/* What one worker shares at a time: seconds of work at most even where extents are tiny. */
#define SHARE_MAX_BYTES ((guint64) 256 << 20)
/* Dirty pages of the target start on their way each time so much was written, so that the flush at the end is
 * short and a cancel never waits for gigabytes. */
#define WRITEBACK_BYTES ((guint64) 32 << 20)
#define TICK_MS         100
/* How much is made zeros between two looks at the cancel flag: seconds of work where they must be written. */
#define ZERO_MAX_BYTES ((guint64) 64 << 20)
/* How far one look into the map goes. */
#define MAP_MAX_BYTES GIB

typedef enum { SHARING_UNTRIED, SHARING_WORKS, SHARING_CANNOT } Sharing;

typedef struct {
    const CopyPlan *plan;
    guint64 unit_bytes; /* zero detection and change detection look at this many bytes at a time */
    gint sharing;       /* atomic: Sharing */
    gint stop;          /* atomic: an error or a cancel */

    GMutex mutex;
    GCond changed; /* a worker ended */
    GCond turned;  /* it is the next chunk's turn */
    GCond stopped;
    gint64 began; /* monotonic */
    /* Under mutex. */
    KhoMapEntry run; /* of the source, the last one looked at */
    Stretch stretch; /* the same, where only a part is copied */
    guint64 next;    /* from the start of the range: where the next chunk begins; a multiple of the unit */
    guint64 taken;   /* chunks handed out */
    guint64 turn;    /* the chunk that may be written now, counted as taken: see is_ordered */
    guint64 done;    /* bytes copied or passed over */
    guint64 written; /* to the target's file, for the writeback */
    guint64 paced;   /* of that, what counts for the rate */
    guint running;
    GError *error; /* the first */
} Copy;

/* What a worker does next. */
typedef struct {
    guint64 number;
    guint64 start, bytes; /* from the start of the range */
    gboolean share;       /* one run of plain data whose blocks may be shared */
    gboolean zero;        /* all of it becomes zeros, without a look at the source */
} Chunk;

static void
finish_with(Copy *copy, GError *error)
{
    g_atomic_int_set(&copy->stop, 1);
    g_mutex_lock(&copy->mutex);
    if (!copy->error)
        copy->error = g_steal_pointer(&error);
    g_cond_broadcast(&copy->stopped);
    g_mutex_unlock(&copy->mutex);
    g_clear_error(&error);
}

static gboolean
is_stopped(Copy *copy)
{
    return g_atomic_int_get(&copy->stop) || kho_job_is_cancelled(copy->plan->job);
}

/* What the source chain says at @start; past its end there is a hole. */
static gboolean
map_source(const CopyPlan *plan, guint64 start, guint64 max_bytes, KhoMapEntry *entry, GError **error)
{
    guint64 off = plan->source_off + start;
    guint64 size = kho_image_size_bytes(plan->source);
    g_autoptr(GError) cause = NULL;

    if (off < size && kho_image_map(plan->source, off, MIN(max_bytes, size - off), entry, &cause))
        return TRUE;
    if (off < size && plan->unreadable) { /* a chunk of it at a time is tried */
        *entry = (KhoMapEntry){ .start_bytes = off,
                                .length_bytes = MIN(MIN(max_bytes, size - off), COPY_CHUNK_BYTES),
                                .kind = KHO_MAP_DATA };
        return TRUE;
    }
    if (off < size) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return FALSE;
    }
    *entry = (KhoMapEntry){
        .start_bytes = off, .length_bytes = max_bytes, .kind = KHO_MAP_HOLE, .reads_zero = TRUE
    };
    return TRUE;
}

/* The image of the source chain that an entry lies in. */
static KhoImage *
owner_of(const CopyPlan *plan, const KhoMapEntry *entry)
{
    KhoImage *owner = plan->source;

    while (owner->depth < entry->depth)
        owner = owner->backing;
    return owner;
}

static gboolean
is_shareable(Copy *copy, const KhoMapEntry *entry)
{
    return entry->kind == KHO_MAP_DATA && entry->has_offset && !entry->reads_zero
           && entry->host_offset_bytes % SHARE_UNIT_BYTES == 0 && entry->length_bytes >= copy->unit_bytes
           && entry->length_bytes >= SHARE_UNIT_BYTES && copy->plan->source && !copy->plan->only_changes
           && !copy->plan->compress && copy->stretch.kind != STRETCH_COMPARE
           && g_atomic_int_get(&copy->sharing) != SHARING_CANNOT;
}

/* What one worker takes at once. Until it is known that blocks can be shared it may have to copy what it
 * took, alone. */
static guint64
longest_chunk(Copy *copy, gboolean share)
{
    if (share && g_atomic_int_get(&copy->sharing) == SHARING_WORKS)
        return SHARE_MAX_BYTES;
    return MAX(COPY_CHUNK_BYTES, copy->unit_bytes);
}

/* What there is to copy in the @rest bytes from copy->next on, as one run. Runs are remembered, since one is
 * many chunks long.
 */
static gboolean
next_run_locked(Copy *copy, guint64 rest, KhoMapEntry *entry, GError **error)
{
    const CopyPlan *plan = copy->plan;
    guint64 off = plan->source_off + copy->next;
    guint64 passed = off - copy->run.start_bytes;

    if (!plan->source) {
        *entry = (KhoMapEntry){ .start_bytes = off, .length_bytes = rest, .kind = KHO_MAP_DATA };
        return TRUE;
    }
    if (off < copy->run.start_bytes || passed >= copy->run.length_bytes) {
        passed = 0;
        if (!map_source(plan, copy->next, MIN(rest, MAP_MAX_BYTES), &copy->run, error))
            return FALSE;
    }
    *entry = copy->run;
    entry->start_bytes += passed;
    entry->length_bytes = MIN(entry->length_bytes - passed, rest);
    entry->host_offset_bytes += passed;
    return TRUE;
}

static void
pass_over_locked(Copy *copy, guint64 bytes)
{
    copy->next += bytes;
    copy->done += bytes;
}

static gboolean
look_at_stretch(const CopyPlan *plan, guint64 off, guint64 max_bytes, Stretch *stretch, GError **error)
{
    switch (plan->what) {
    case COPY_OWN: return stretch_own(plan->source, plan->through, off, max_bytes, stretch, error);
    case COPY_DIFFERING:
        return stretch_differing(plan->source, plan->against, off, max_bytes, stretch, error);
    default: return stretch_lacking(plan->source, plan->through, off, max_bytes, stretch, error);
    }
}

/* What is to be done from copy->next on, where only a part is copied. */
static gboolean
next_stretch_locked(Copy *copy, Stretch *stretch, GError **error)
{
    const CopyPlan *plan = copy->plan;
    guint64 off = plan->source_off + copy->next;
    guint64 rest = MIN(plan->bytes - copy->next, MAP_MAX_BYTES);

    if (off < copy->stretch.start || off - copy->stretch.start >= copy->stretch.bytes) {
        if (!look_at_stretch(plan, off, rest, &copy->stretch, error))
            return FALSE;
    }
    guint64 passed = off - copy->stretch.start;
    *stretch = (Stretch){ off, copy->stretch.bytes - passed, copy->stretch.kind };
    return TRUE;
}

/* Where only a part is copied: passes over what is not, or takes what becomes zeros as *chunk, and tells in
 * *most how much from copy->next on is one piece of data; neither: *most is 0. What is lacking is copied in
 * whole clusters, of which a part may not be lacking. */
static gboolean
take_stretch_locked(Copy *copy, Chunk *chunk, guint64 *most, GError **error)
{
    const CopyPlan *plan = copy->plan;
    guint64 rest = plan->bytes - copy->next;
    Stretch stretch;

    *most = rest;
    if (plan->what == COPY_ALL)
        return TRUE;
    if (!next_stretch_locked(copy, &stretch, error))
        return FALSE;
    guint64 unit = plan->what == COPY_OWN ? 1 : copy->unit_bytes;
    gboolean has_data = stretch.kind == STRETCH_DATA || stretch.kind == STRETCH_COMPARE;
    guint64 inner = stretch.bytes == rest ? rest : num_align_down(stretch.bytes, unit);

    if (has_data || inner == 0) {
        guint64 outer = has_data ? num_align_up(stretch.bytes, unit) : unit;
        *most = MIN(outer, rest);
        return TRUE;
    }
    *most = 0;
    if (stretch.kind == STRETCH_ZERO) {
        *chunk = (Chunk){ .start = copy->next, .bytes = MIN(inner, ZERO_MAX_BYTES), .zero = TRUE };
        copy->next += chunk->bytes;
    } else {
        pass_over_locked(copy, inner);
    }
    return TRUE;
}

/* The next piece of work; *chunk has no bytes when there is none. Passes over what need not be written. */
static gboolean
take_chunk_locked(Copy *copy, Chunk *chunk, GError **error)
{
    const CopyPlan *plan = copy->plan;

    *chunk = (Chunk){ 0 };
    while (copy->next < plan->bytes && !is_stopped(copy)) {
        guint64 rest;
        KhoMapEntry entry;

        if (!take_stretch_locked(copy, chunk, &rest, error))
            return FALSE;
        if (chunk->bytes > 0)
            return TRUE;
        if (rest == 0)
            continue;
        if (!next_run_locked(copy, rest, &entry, error))
            return FALSE;
        gboolean share = is_shareable(copy, &entry);
        guint64 whole =
            entry.length_bytes == rest ? rest : num_align_down(entry.length_bytes, copy->unit_bytes);

        if (entry.reads_zero && plan->target_is_zero && whole > 0) {
            pass_over_locked(copy, whole);
            continue;
        }
        /* A chunk that is not shared may span many short runs. */
        guint64 bytes = share || (plan->keep_zeros && whole > 0) ? whole : rest;
        *chunk =
            (Chunk){ .start = copy->next, .bytes = MIN(bytes, longest_chunk(copy, share)), .share = share };
        copy->next += chunk->bytes;
        return TRUE;
    }
    return TRUE;
}

/* Shares blocks for as much of @from as one place of the target takes; *done is 0 where it must be copied. */
static gboolean
share_place(Copy *copy, const KhoMapEntry *from, int source_fd, guint64 *done, GError **error)
{
    FormatImage *target = copy->plan->target->format;
    guint64 off = copy->plan->target_off + from->start_bytes - copy->plan->source_off;
    CloneResult result = CLONE_CANNOT;
    Place place;

    *done = 0;
    if (!format_prepare(target, guest_off(off), from->length_bytes, &place, error))
        return FALSE;
    guint64 head = off - place.at.bytes;
    guint64 bytes = num_align_down(MIN(from->length_bytes, place.bytes - head), SHARE_UNIT_BYTES);
    guint64 host = place.host.bytes + head;

    /* A new place must be covered whole, since nothing else fills it here. */
    if (bytes > 0 && host % SHARE_UNIT_BYTES == 0
        && (place.in_place || (head == 0 && bytes == place.bytes))) {
        int fd = blk_fd(target->data);

        result = clone_share(source_fd, from->host_offset_bytes, fd, host, bytes, error);
        if (result == CLONE_CANNOT)
            result = clone_offload(source_fd, from->host_offset_bytes, fd, host, bytes, error);
        if (result != CLONE_FAILED)
            g_atomic_int_set(&copy->sharing, result == CLONE_DONE ? SHARING_WORKS : SHARING_CANNOT);
    }
    if (result != CLONE_DONE) {
        format_abandon(target, &place);
        return result == CLONE_CANNOT;
    }
    *done = bytes;
    return format_commit(target, &place, error);
}

/* Shares the front of the chunk and lowers it to what must be copied. */
static gboolean
share_chunk(Copy *copy, Chunk *chunk, GError **error)
{
    const CopyPlan *plan = copy->plan;
    guint64 done;

    do {
        KhoMapEntry entry;

        done = 0;
        if (!map_source(plan, chunk->start, chunk->bytes, &entry, error))
            return FALSE;
        int fd = blk_fd(owner_of(plan, &entry)->format->data);
        if (entry.kind == KHO_MAP_DATA && fd >= 0 && !share_place(copy, &entry, fd, &done, error))
            return FALSE;
        chunk->start += done;
        chunk->bytes -= done;
    } while (done > 0 && chunk->bytes > 0 && !is_stopped(copy));
    return TRUE;
}

/* Whoever allocates as it writes does so in the guest's order, so that neighbours stay neighbours in the
 * file; chunks are read at the same time all the same, and what is written in order hardly waits: file
 * systems let one writer at a time into a file. */
static gboolean
is_ordered(const Copy *copy)
{
    return copy->plan->target->cluster_bytes > 1;
}

/* Ends also when the copy is stopped: every chunk's turn is passed on, whatever became of it. */
static void
await_turn(Copy *copy, const Chunk *chunk)
{
    g_mutex_lock(&copy->mutex);
    while (copy->turn != chunk->number)
        g_cond_wait(&copy->turned, &copy->mutex);
    g_mutex_unlock(&copy->mutex);
}

static void
pass_turn(Copy *copy, const Chunk *chunk)
{
    await_turn(copy, chunk);
    g_mutex_lock(&copy->mutex);
    copy->turn++;
    g_cond_broadcast(&copy->turned);
    g_mutex_unlock(&copy->mutex);
}

static gboolean
copy_chunk(Copy *copy, const Chunk *taken, Units *units, GError **error)
{
    guint64 longest = MAX(COPY_CHUNK_BYTES, copy->unit_bytes);
    Chunk rest = *taken;

    if ((rest.zero || rest.share) && is_ordered(copy))
        await_turn(copy, taken);
    if (rest.zero)
        return units_make_zeros(copy->plan, rest.start, rest.bytes, error);
    if (rest.share && !share_chunk(copy, &rest, error))
        return FALSE;
    while (rest.bytes > 0 && !is_stopped(copy)) {
        guint64 bytes = MIN(rest.bytes, longest);

        if (!units_read(units, copy->plan, rest.start, bytes, error))
            return FALSE;
        if (is_ordered(copy))
            await_turn(copy, taken);
        if (!units_write(units, copy->plan, rest.start, bytes, error))
            return FALSE;
        rest.start += bytes;
        rest.bytes -= bytes;
    }
    return TRUE;
}

static void
account(Copy *copy, const Chunk *chunk)
{
    int fd = blk_fd(copy->plan->target->format->data);

    g_mutex_lock(&copy->mutex);
    guint64 before = copy->written / WRITEBACK_BYTES;
    copy->done += chunk->bytes;
    copy->written += chunk->bytes;
    copy->paced += chunk->zero ? 0 : chunk->bytes;
    gboolean due = copy->written / WRITEBACK_BYTES != before;
    g_mutex_unlock(&copy->mutex);
    if (due && fd >= 0)
        clone_start_writeback(fd, 0, 0);
}

/* Where there is a rate, waits until what was copied is no more than that allows; a tick at a time, so that
 * a cancel is seen. */
static void
keep_pace(Copy *copy)
{
    guint64 rate = copy->plan->rate_bytes;

    if (rate == 0)
        return;
    g_mutex_lock(&copy->mutex);
    while (!is_stopped(copy)) {
        gint64 now = g_get_monotonic_time();
        double due_us = (double) copy->paced / (double) rate * G_TIME_SPAN_SECOND;

        if ((double) (now - copy->began) >= due_us)
            break;
        g_cond_wait_until(&copy->stopped, &copy->mutex, now + TICK_MS * G_TIME_SPAN_MILLISECOND);
    }
    g_mutex_unlock(&copy->mutex);
}

static gpointer
work(gpointer data)
{
    Copy *copy = data;
    g_auto(Units) units;

    units_init(&units, copy->plan, MAX(COPY_CHUNK_BYTES, copy->unit_bytes));
    for (;;) {
        GError *error = NULL;
        Chunk chunk;

        g_mutex_lock(&copy->mutex);
        gboolean taken = take_chunk_locked(copy, &chunk, &error);
        chunk.number = copy->taken;
        copy->taken += taken && chunk.bytes > 0;
        g_mutex_unlock(&copy->mutex);
        if (taken && chunk.bytes == 0)
            break;
        gboolean copied = taken && copy_chunk(copy, &chunk, &units, &error);
        if (!copied)
            finish_with(copy, error);
        if (taken && is_ordered(copy))
            pass_turn(copy, &chunk);
        if (!copied)
            break;
        account(copy, &chunk);
        keep_pace(copy);
    }
    g_mutex_lock(&copy->mutex);
    copy->running--;
    g_cond_signal(&copy->changed);
    g_mutex_unlock(&copy->mutex);
    return NULL;
}

/* Waits for the workers, telling progress ten times a second. */
static void
follow(Copy *copy)
{
    const KhoJob *job = copy->plan->job;

    g_mutex_lock(&copy->mutex);
    gint64 tick = g_get_monotonic_time() + TICK_MS * G_TIME_SPAN_MILLISECOND;
    while (copy->running > 0) {
        if (g_cond_wait_until(&copy->changed, &copy->mutex, tick))
            continue;
        guint64 done = copy->done;
        g_mutex_unlock(&copy->mutex);
        if (job && job->progress)
            job->progress(done, copy->plan->bytes, job->data);
        g_mutex_lock(&copy->mutex);
        tick = g_get_monotonic_time() + TICK_MS * G_TIME_SPAN_MILLISECOND;
    }
    g_mutex_unlock(&copy->mutex);
}

static guint
count_workers(const CopyPlan *plan)
{
    guint processors = g_get_num_processors();
    /* While one waits for its turn to write, another compresses. */
    guint wanted = plan->workers > 0 ? plan->workers : plan->compress ? 2 * processors : processors;
    guint64 chunks = MAX(num_div_up(plan->bytes, COPY_CHUNK_BYTES), 1);

    return (guint) MIN(MIN(wanted, COPY_WORKERS_MAX), chunks);
}

static void
run_workers(Copy *copy)
{
    GThread *threads[COPY_WORKERS_MAX];
    guint n = count_workers(copy->plan);

    copy->running = n;
    for (guint i = 0; i < n; i++) {
        g_autoptr(GError) error = NULL;

        threads[i] = g_thread_try_new("copy", work, copy, &error);
        if (!threads[i])
            work(copy); /* no thread to be had: this one does its share, without progress */
    }
    follow(copy);
    for (guint i = 0; i < n; i++)
        if (threads[i])
            g_thread_join(threads[i]);
}

gboolean
image_copy(const CopyPlan *plan, GError **error)
{
    Copy copy = {
        .plan = plan,
        .unit_bytes = units_bytes_of(plan),
        .began = g_get_monotonic_time(),
    };

    g_assert(!plan->compress || (plan->what == COPY_ALL && plan->target_off % copy.unit_bytes == 0));
    g_assert(plan->target->writable && plan->target_off <= kho_image_size_bytes(plan->target)
             && plan->bytes <= kho_image_size_bytes(plan->target) - plan->target_off);
    g_mutex_init(&copy.mutex);
    g_cond_init(&copy.changed);
    g_cond_init(&copy.turned);
    g_cond_init(&copy.stopped);
    if (plan->bytes > 0)
        run_workers(&copy);
    g_mutex_clear(&copy.mutex);
    g_cond_clear(&copy.changed);
    g_cond_clear(&copy.turned);
    g_cond_clear(&copy.stopped);

    if (copy.error) {
        g_propagate_error(error, copy.error);
        return FALSE;
    }
    if (kho_job_is_cancelled(plan->job))
        return fail(error, KHO_ERROR_CANCELLED, "cancelled: %s is unchanged", plan->target->path);
    if (plan->job && plan->job->progress)
        plan->job->progress(plan->bytes, plan->bytes, plan->job->data);
    return TRUE;
}
