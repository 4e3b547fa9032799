#include "image/copy.h"

#include "base/clone.h"
#include "base/error.h"
#include "base/num.h"
#include "image/share.h"
#include "image/survey.h"
#include "image/units.h"

#include <string.h>

/* Dirty pages of the target start on their way each time so much was written, so that the flush at the end is
 * short and a cancel never waits for gigabytes. */
#define WRITEBACK_BYTES ((guint64) 32 << 20)
#define TICK_MS         100
/* How much is made zeros between two looks at the cancel flag: seconds of work where they must be written. */
#define ZERO_MAX_BYTES ((guint64) 64 << 20)
typedef struct {
    const CopyPlan *plan;
    guint64 unit_bytes; /* zero detection and change detection look at this many bytes at a time */
    gint stop;          /* atomic: an error or a cancel */

    GMutex mutex;
    GCond changed; /* a worker ended */
    GCond turned;  /* it is the next chunk's turn */
    GCond stopped;
    gint64 began; /* monotonic */
    /* Under mutex. */
    KhoMapEntry run; /* of the source, the last one looked at */
    Stretch stretch; /* the same, where only a part is copied; from the start of the range */
    guint64 next;    /* from the start of the range: where the next chunk begins; a multiple of the unit */
    Sharing sharing; /* what its last look went over is copied now, but for what it shared */
    guint passed;    /* of the ranges shared: those before @next */
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
        if (!survey_run(plan, copy->next, MIN(rest, SURVEY_MAX_BYTES), &copy->run, error))
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

/* What is to be done from copy->next on, where only a part is copied. */
static gboolean
next_stretch_locked(Copy *copy, guint64 rest, Stretch *stretch, GError **error)
{
    const Stretch *known = &copy->stretch;

    if ((copy->next < known->start || copy->next - known->start >= known->bytes)
        && !survey_stretch(copy->plan, copy->next, MIN(rest, SURVEY_MAX_BYTES), &copy->stretch, error))
        return FALSE;
    guint64 passed = copy->next - known->start;
    *stretch = (Stretch){ copy->next, MIN(known->bytes - passed, rest), known->kind };
    return TRUE;
}

/* Where only a part of the @rest from copy->next on is copied: passes over what is not, or takes what becomes
 * zeros as *chunk, and tells in *most how much is one piece of data; neither: *most is 0. What is lacking is
 * copied in whole clusters, of which a part may not be lacking. */
static gboolean
take_stretch_locked(Copy *copy, guint64 rest, Chunk *chunk, guint64 *most, GError **error)
{
    const CopyPlan *plan = copy->plan;
    Stretch stretch;

    *most = rest;
    if (plan->what == COPY_ALL)
        return TRUE;
    if (!next_stretch_locked(copy, rest, &stretch, error))
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

/* Passes over what was shared; how much there is from copy->next on up to what was, or to the end of what was
 * gone over. */
static guint64
pass_shared_locked(Copy *copy)
{
    const Sharing *sharing = &copy->sharing;

    for (; copy->passed < sharing->ranges->len; copy->passed++) {
        const SharedRange *range = &g_array_index(sharing->ranges, SharedRange, copy->passed);

        if (range->start > copy->next)
            return range->start - copy->next;
        if (range->end > copy->next)
            pass_over_locked(copy, range->end - copy->next);
    }
    return sharing->to - copy->next;
}

/* The next piece of work; *chunk has no bytes when there is none. Passes over what need not be written. */
static gboolean
take_chunk_locked(Copy *copy, Chunk *chunk, GError **error)
{
    const CopyPlan *plan = copy->plan;

    *chunk = (Chunk){ 0 };
    for (guint64 rest; !is_stopped(copy) && (rest = pass_shared_locked(copy)) > 0;) {
        KhoMapEntry entry;

        if (!take_stretch_locked(copy, rest, chunk, &rest, error))
            return FALSE;
        if (chunk->bytes > 0)
            return TRUE;
        if (rest == 0)
            continue;
        if (!next_run_locked(copy, rest, &entry, error))
            return FALSE;
        guint64 whole =
            entry.length_bytes == rest ? rest : num_align_down(entry.length_bytes, copy->unit_bytes);

        if (entry.reads_zero && plan->target_is_zero && whole > 0) {
            pass_over_locked(copy, whole);
            continue;
        }
        /* A chunk may span many short runs. */
        guint64 bytes = plan->keep_zeros && whole > 0 ? whole : rest;
        *chunk = (Chunk){ .start = copy->next, .bytes = MIN(bytes, MAX(COPY_CHUNK_BYTES, copy->unit_bytes)) };
        copy->next += chunk->bytes;
        return TRUE;
    }
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

    if (rest.zero && is_ordered(copy))
        await_turn(copy, taken);
    if (rest.zero)
        return units_make_zeros(copy->plan, rest.start, rest.bytes, error);
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
count_workers(const CopyPlan *plan, guint64 bytes)
{
    guint processors = g_get_num_processors();
    /* While one waits for its turn to write, another compresses. */
    guint wanted = plan->workers > 0 ? plan->workers : plan->compress ? 2 * processors : processors;
    guint64 chunks = MAX(num_div_up(bytes, COPY_CHUNK_BYTES), 1);

    return (guint) MIN(MIN(wanted, COPY_WORKERS_MAX), chunks);
}

static void
run_workers(Copy *copy)
{
    GThread *threads[COPY_WORKERS_MAX];
    guint n = count_workers(copy->plan, copy->sharing.to - copy->next);

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

/* A part of the range at a time, as long as sharing's memory allows: first what can be shared, then the rest.
 */
static void
go_through(Copy *copy)
{
    GError *error = NULL;

    while (copy->next < copy->plan->bytes && !is_stopped(copy)) {
        copy->passed = 0;
        if (!sharing_go_on(&copy->sharing, copy->next, &error))
            finish_with(copy, error);
        else if (copy->sharing.all)
            pass_over_locked(copy, copy->sharing.to - copy->next);
        else
            run_workers(copy);
    }
}

gboolean
image_copy(const CopyPlan *plan, GError **error)
{
    Copy copy = {
        .plan = plan,
        .unit_bytes = units_bytes_of(plan),
        .began = g_get_monotonic_time(),
    };

    gboolean may_compress = plan->what == COPY_ALL || plan->what == COPY_CHANGED;
    g_assert(!plan->compress || (may_compress && plan->target_off % copy.unit_bytes == 0));
    g_assert(plan->target->writable && plan->target_off <= kho_image_size_bytes(plan->target)
             && plan->bytes <= kho_image_size_bytes(plan->target) - plan->target_off);
    g_mutex_init(&copy.mutex);
    g_cond_init(&copy.changed);
    g_cond_init(&copy.turned);
    g_cond_init(&copy.stopped);
    sharing_init(&copy.sharing, plan);
    go_through(&copy);
    sharing_clear(&copy.sharing);
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
