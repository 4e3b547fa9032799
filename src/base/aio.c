#include "base/aio.h"

#include <errno.h>
#include <liburing.h>
#include <string.h>
#include <unistd.h>

/* More do not make a disk faster. */
#define THREADS_MAX 4

struct Aio {
    guint depth, under_way;
    gboolean is_uring;
    struct io_uring ring;
    /* Instead of it. */
    GThreadPool *threads;
    GAsyncQueue *done;
};

/* ---- threads ---- */

static void
write_one(gpointer data, gpointer user_data)
{
    AioWrite *write = data;
    Aio *aio = user_data;
    gssize n;

    do
        n = pwrite(write->fd, write->bytes, write->len, (off_t) write->off);
    while (n < 0 && errno == EINTR);
    write->result = n < 0 ? -errno : n;
    g_async_queue_push(aio->done, write);
}

/* Where no thread can be made, whoever begins a write does it. */
static void
hand_to_thread(Aio *aio, AioWrite *write)
{
    if (!aio->threads)
        aio->threads = g_thread_pool_new(write_one, aio, (gint) MIN(aio->depth, THREADS_MAX), TRUE, NULL);
    if (!aio->threads || g_thread_pool_get_num_threads(aio->threads) == 0)
        write_one(write, aio);
    else
        g_thread_pool_push(aio->threads, write, NULL);
}

/* ---- io_uring ---- */

/* The kernel's word on its own queue. What else than these it may say means that nobody knows any more which
 * bytes are being written from which memory: then this process must not go on. */
static void
must_go_on(int result, const char *what)
{
    if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY)
        g_error("io_uring %s: %s", what, g_strerror(-result));
}

static void
hand_to_kernel(Aio *aio, AioWrite *write)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&aio->ring);
    int begun;

    g_assert(entry); /* the ring has room for all that may be under way */
    io_uring_prep_write(entry, write->fd, write->bytes, (unsigned) write->len, write->off);
    io_uring_sqe_set_data(entry, write);
    while ((begun = io_uring_submit(&aio->ring)) < 1)
        must_go_on(begun, "takes no write");
}

static AioWrite *
wait_for_kernel(Aio *aio)
{
    struct io_uring_cqe *entry;
    int result;

    while ((result = io_uring_wait_cqe(&aio->ring, &entry)) < 0)
        must_go_on(result, "ends no write");
    AioWrite *write = io_uring_cqe_get_data(entry);
    write->result = entry->res;
    io_uring_cqe_seen(&aio->ring, entry);
    return write;
}

/* ---- either ---- */

Aio *
aio_new(guint depth)
{
    Aio *aio = g_new0(Aio, 1);

    g_assert(depth >= 1 && depth <= 64);
    aio->depth = depth;
    aio->is_uring = io_uring_queue_init(depth, &aio->ring, 0) == 0;
    if (!aio->is_uring)
        aio->done = g_async_queue_new();
    return aio;
}

void
aio_free(Aio *aio)
{
    g_assert(aio->under_way == 0);
    if (aio->is_uring)
        io_uring_queue_exit(&aio->ring);
    if (aio->threads)
        g_thread_pool_free(aio->threads, FALSE, TRUE);
    g_clear_pointer(&aio->done, g_async_queue_unref);
    g_free(aio);
}

void
aio_begin(Aio *aio, AioWrite *write)
{
    g_assert(aio->under_way < aio->depth);
    aio->under_way++;
    if (aio->is_uring)
        hand_to_kernel(aio, write);
    else
        hand_to_thread(aio, write);
}

AioWrite *
aio_wait(Aio *aio)
{
    g_assert(aio->under_way > 0);
    aio->under_way--;
    return aio->is_uring ? wait_for_kernel(aio) : g_async_queue_pop(aio->done);
}

gboolean
aio_is_uring(const Aio *aio)
{
    return aio->is_uring;
}
