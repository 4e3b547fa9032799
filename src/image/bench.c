/* Bench: requests of one kind on an image, several at a time. */
#include "base/error.h"
#include "base/num.h"
#include "image/image.h"

#include <kho/image_change.h>
#include <string.h>

typedef struct {
    const KhoImageBench *plan;
    KhoImage *image;
    const KhoJob *job;

    GMutex mutex;
    GCond changed; /* one ended, a flush ended */
    /* Under mutex. */
    guint64 begun, off; /* how many requests, and where the next one goes */
    guint flying;
    gboolean flush_due, flushing;
    guint64 flushed_at; /* begun, when the last flush was due */
    GError *error;      /* the first */
} Bench;

static gboolean
is_over(const Bench *bench)
{
    return bench->error || kho_job_is_cancelled(bench->job);
}

/* One ended, or could not begin; @error is taken over. */
static void
end_locked(Bench *bench, GError *error)
{
    if (error && !bench->error)
        bench->error = g_steal_pointer(&error);
    g_clear_error(&error);
    g_cond_broadcast(&bench->changed);
}

static void
give_up_locked(Bench *bench, const char *why, guint n)
{
    GError *error = NULL;

    fail(&error, KHO_ERROR_NO_SPACE, "%s %u requests at a time", why, n);
    end_locked(bench, error);
}

/* Makes the flush that is due: at once, or when nothing else is under way. */
static void
flush_locked(Bench *bench)
{
    GError *error = NULL;

    while (!bench->plan->keep_flying && bench->flying > 0 && !bench->error)
        g_cond_wait(&bench->changed, &bench->mutex);
    bench->flush_due = FALSE;
    bench->flushing = TRUE;
    g_mutex_unlock(&bench->mutex);
    kho_image_flush(bench->image, &error);
    g_mutex_lock(&bench->mutex);
    bench->flushing = FALSE;
    end_locked(bench, error);
}

/* Where the next request goes; FALSE when there is none. Makes a flush first where one is due. */
static gboolean
take_locked(Bench *bench, guint64 *off)
{
    const KhoImageBench *plan = bench->plan;
    guint64 size = kho_image_size_bytes(bench->image);

    for (;;) {
        /* Whoever comes while others wait for a flush waits with them. */
        while ((bench->flush_due || (bench->flushing && !plan->keep_flying)) && !is_over(bench))
            g_cond_wait(&bench->changed, &bench->mutex);
        if (is_over(bench))
            return FALSE;
        if (plan->flush_every == 0 || bench->begun == bench->flushed_at
            || bench->begun % plan->flush_every != 0)
            break;
        bench->flushed_at = bench->begun;
        bench->flush_due = TRUE;
        flush_locked(bench);
    }
    if (bench->begun >= plan->requests)
        return FALSE;
    bench->begun++;
    bench->flying++;
    *off = bench->off;
    bench->off = (bench->off + (plan->step_bytes ? plan->step_bytes : plan->request_bytes)) % size;
    return TRUE;
}

static gboolean
request(Bench *bench, guint64 off, guint8 *buffer, GError **error)
{
    gsize len = bench->plan->request_bytes;

    return bench->plan->write ? kho_image_write(bench->image, off, buffer, len, error)
                              : kho_image_read(bench->image, off, buffer, len, error);
}

static gpointer
work(gpointer data)
{
    Bench *bench = data;
    g_autofree guint8 *buffer = g_try_malloc(MAX(bench->plan->request_bytes, 1));
    guint64 off;

    if (buffer)
        memset(buffer, bench->plan->pattern, bench->plan->request_bytes);
    g_mutex_lock(&bench->mutex);
    if (!buffer)
        give_up_locked(bench, "no memory for the buffers of", bench->plan->depth);
    while (take_locked(bench, &off)) {
        GError *error = NULL;

        g_mutex_unlock(&bench->mutex);
        request(bench, off, buffer, &error);
        g_mutex_lock(&bench->mutex);
        bench->flying--;
        end_locked(bench, error);
    }
    g_mutex_unlock(&bench->mutex);
    return NULL;
}

static gboolean
run(Bench *bench, GError **error)
{
    guint n = (guint) MIN(bench->plan->depth, bench->plan->requests);
    g_autofree GThread **threads = g_new0(GThread *, n + 1);

    g_mutex_init(&bench->mutex);
    g_cond_init(&bench->changed);
    for (guint i = 0; i < n; i++) {
        threads[i] = g_thread_try_new("bench", work, bench, NULL);
        if (threads[i])
            continue;
        g_mutex_lock(&bench->mutex);
        give_up_locked(bench, "no threads for", n);
        g_mutex_unlock(&bench->mutex);
        break;
    }
    for (guint i = 0; i < n && threads[i]; i++)
        g_thread_join(threads[i]);
    g_mutex_clear(&bench->mutex);
    g_cond_clear(&bench->changed);
    if (bench->error) {
        g_propagate_error(error, bench->error);
        return FALSE;
    }
    return !kho_job_is_cancelled(bench->job)
           || fail(error, KHO_ERROR_CANCELLED, "cancelled after %" G_GUINT64_FORMAT " requests",
                   bench->begun);
}

static gboolean
check(const KhoImageBench *b, GError **error)
{
    if (b->depth < 1 || b->depth > KHO_BENCH_DEPTH_MAX)
        return fail(error, KHO_ERROR_INVALID, "%u requests at a time: 1 to %u are possible", b->depth,
                    KHO_BENCH_DEPTH_MAX);
    if (b->flush_every > 0 && !b->write)
        return fail(error, KHO_ERROR_INVALID,
                    "a flush is for writing: nothing else leaves anything to flush");
    if (b->flush_every > 0 && b->flush_every < b->depth)
        return fail(error, KHO_ERROR_INVALID,
                    "a flush every %" G_GUINT64_FORMAT " requests: not less than the %u at a time are wanted",
                    b->flush_every, b->depth);
    return TRUE;
}

gboolean
kho_image_bench(const KhoImageSource *source, const KhoImageBench *plan, double *seconds, GError **error)
{
    KhoImageSource how = *source;

    if (!check(plan, error))
        return FALSE;
    how.flags = (source->flags & KHO_IMAGE_NO_LOCK) | (plan->write ? KHO_IMAGE_WRITE : KHO_IMAGE_READ);
    g_autoptr(KhoImage) image = kho_image_open_source(&how, error);
    if (!image || (plan->write && !image_takes_writes(image, error)))
        return FALSE;
    if (kho_image_size_bytes(image) == 0)
        return fail(error, KHO_ERROR_INVALID, "%s is 0 bytes long: there is nothing to request",
                    source->path);

    Bench bench = { .plan = plan, .image = image, .job = source->job, .off = plan->start_bytes };
    gint64 began_us = g_get_monotonic_time();
    gboolean done = run(&bench, error);
    double took = (double) (g_get_monotonic_time() - began_us) / G_TIME_SPAN_SECOND;
    if (!image_close_after(g_steal_pointer(&image), done, error))
        return FALSE;
    *seconds = took;
    return TRUE;
}
