/* Writes that go on while their caller does something else: by io_uring, or by a few threads where that is
 * forbidden or missing. Here lives the queue alone; which writes are worth it is block/direct.c's business.
 */
#ifndef KHO_BASE_AIO_H
#define KHO_BASE_AIO_H

#include <glib.h>

typedef struct Aio Aio;

/* A write under way; it and its bytes belong to the caller, who leaves both alone until aio_wait gave it
 * back. */
typedef struct {
    int fd;
    const void *bytes;
    gsize len;
    guint64 off;
    gssize result; /* set by aio_wait: how many bytes were written, which may be fewer; or -errno */
} AioWrite;

/* A queue of at most @depth (1 to 64) writes at a time. One thread uses it at a time. */
Aio *aio_new(guint depth);
/* Nothing may be under way. */
void aio_free(Aio *aio);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Aio, aio_free)

/* Begins a write; fewer than the queue's depth are under way. */
void aio_begin(Aio *aio, AioWrite *write);

/* Waits for any of those under way, of which there is one at least. */
AioWrite *aio_wait(Aio *aio);

/* Whether the kernel's own queue does the work, and no thread of ours. */
gboolean aio_is_uring(const Aio *aio);

#endif
