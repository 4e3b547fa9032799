#include "backup/hash.h"

#include "base/digest.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"

#include <fcntl.h>

#define READ_BYTES  ((gsize) 1 << 20)
#define WORKERS_MAX 8
#define TICK_MS     100

typedef struct {
    HashFile *files;
    gsize n_files;
    const KhoJob *job;

    GMutex mutex;
    GCond changed;
    /* Under mutex. */
    gsize next; /* file */
    guint64 done_bytes;
    guint running;
} Hash;

void
hash_file_clear(HashFile *file)
{
    g_clear_pointer(&file->sha256, g_free);
    g_clear_error(&file->error);
}

static void
account(Hash *hash, guint64 bytes)
{
    g_mutex_lock(&hash->mutex);
    hash->done_bytes += bytes;
    g_mutex_unlock(&hash->mutex);
}

static gboolean
hash_open_file(Hash *hash, HashFile *file, int fd, guint8 *buffer, GError **error)
{
    g_autoptr(Digest) digest = digest_new(error);
    guint64 size;

    if (!digest || !fd_size(fd, &size, file->path, error))
        return FALSE;
    for (guint64 at = 0; at < size && !kho_job_is_cancelled(hash->job); at += READ_BYTES) {
        gsize len = (gsize) MIN(READ_BYTES, size - at);
        if (!fd_pread_full(fd, buffer, len, at, file->path, error))
            return FALSE;
        digest_feed(digest, buffer, len);
        account(hash, len);
    }
    file->size_bytes = size;
    file->sha256 = digest_text(digest);
    return TRUE;
}

static gpointer
work(gpointer data)
{
    Hash *hash = data;
    g_autofree guint8 *buffer = g_malloc(READ_BYTES);

    for (;;) {
        g_mutex_lock(&hash->mutex);
        HashFile *file = hash->next < hash->n_files ? &hash->files[hash->next++] : NULL;
        g_mutex_unlock(&hash->mutex);
        if (!file || kho_job_is_cancelled(hash->job))
            break;
        fd_auto int fd = fd_open(file->path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &file->error);
        if (fd >= 0)
            hash_open_file(hash, file, fd, buffer, &file->error);
    }
    g_mutex_lock(&hash->mutex);
    hash->running--;
    g_cond_signal(&hash->changed);
    g_mutex_unlock(&hash->mutex);
    return NULL;
}

static guint64
total_bytes(const Hash *hash)
{
    guint64 total = 0;

    for (gsize i = 0; i < hash->n_files; i++) {
        fd_auto int fd = fd_open(hash->files[i].path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, NULL);
        guint64 size;
        if (fd >= 0 && fd_size(fd, &size, hash->files[i].path, NULL))
            total += size;
    }
    return total;
}

/* Waits for the workers, telling progress ten times a second. */
static void
follow(Hash *hash)
{
    gboolean told = hash->job && hash->job->progress;
    guint64 total = told ? total_bytes(hash) : 0;

    g_mutex_lock(&hash->mutex);
    gint64 tick = g_get_monotonic_time() + TICK_MS * G_TIME_SPAN_MILLISECOND;
    while (hash->running > 0) {
        if (g_cond_wait_until(&hash->changed, &hash->mutex, tick))
            continue;
        guint64 done = hash->done_bytes;
        g_mutex_unlock(&hash->mutex);
        if (told)
            hash->job->progress(MIN(done, total), total, hash->job->data);
        g_mutex_lock(&hash->mutex);
        tick = g_get_monotonic_time() + TICK_MS * G_TIME_SPAN_MILLISECOND;
    }
    g_mutex_unlock(&hash->mutex);
    if (told)
        hash->job->progress(total, total, hash->job->data);
}

gboolean
hash_files(HashFile *files, gsize n_files, const KhoJob *job, GError **error)
{
    Hash hash = { .files = files, .n_files = n_files, .job = job };
    guint n = (guint) MIN(MIN(n_files, g_get_num_processors()), WORKERS_MAX);
    GThread *threads[WORKERS_MAX];

    g_mutex_init(&hash.mutex);
    g_cond_init(&hash.changed);
    hash.running = n;
    for (guint i = 0; i < n; i++) {
        threads[i] = g_thread_try_new("hash", work, &hash, NULL);
        if (!threads[i])
            work(&hash); /* no thread to be had: this one does its share */
    }
    follow(&hash);
    for (guint i = 0; i < n; i++)
        if (threads[i])
            g_thread_join(threads[i]);
    g_mutex_clear(&hash.mutex);
    g_cond_clear(&hash.changed);
    return !kho_job_is_cancelled(job) || fail(error, KHO_ERROR_CANCELLED, "cancelled");
}
