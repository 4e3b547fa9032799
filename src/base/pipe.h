/* Descriptors that are no files of the tree: pipes, memory files, fifos; waiting for descriptors with a
 * deadline, and the clock that deadlines are counted in. Files live in base/fd.h, sockets in base/sock.h. */
#ifndef KHO_BASE_PIPE_H
#define KHO_BASE_PIPE_H

#include <glib.h>

/* Milliseconds of a clock that only goes forward (CLOCK_MONOTONIC), and of the wall. */
gint64 clock_now_ms(void);
gint64 clock_wall_ms(void);

/* A point in time, made by deadline_in; never reached when it is DEADLINE_NEVER. */
#define DEADLINE_NEVER G_MAXINT64
static inline gint64
deadline_in(guint timeout_ms)
{
    return clock_now_ms() + timeout_ms;
}
/* Milliseconds until then, 0 when it has passed, at most G_MAXINT: what poll(2) takes; -1 for DEADLINE_NEVER.
 */
int deadline_left(gint64 deadline_ms);

/* Lets @ms pass. For the next look at something that sends no event (a lock of another process), never
 * instead of one. */
void clock_pause(guint ms);

gboolean pipe_make(int *read_end, int *write_end, GError **error);

/* A nameless file in memory that holds @len bytes, its offset at the start. -1 with @error. */
int pipe_memory(const char *label, const void *bytes, gsize len, GError **error);

/* A fifo of mode 0600 at @name in @dirfd; one that stands there is kept. */
gboolean pipe_make_fifo(int dirfd, const char *name, GError **error);

/* Waits until @fd can be read (or has ended). FALSE with KHO_ERROR_TIMEOUT "@what: no answer in time". */
gboolean pipe_wait_readable(int fd, gint64 deadline_ms, const char *what, GError **error);
/* The same, until *@cancelled (may be NULL) becomes non-zero, which a signal's handler may do:
 * KHO_ERROR_CANCELLED "cancelled while waiting for @what". */
gboolean pipe_wait_unless(int fd, gint64 deadline_ms, const volatile gint *cancelled, const char *what,
                          GError **error);
gboolean pipe_wait_writable(int fd, gint64 deadline_ms, const char *what, GError **error);

gboolean pipe_set_nonblock(int fd, gboolean nonblock, const char *label, GError **error);

/* One read(2) or write(2), again after EINTR: the number of bytes, 0 at the end, -1 with errno. For
 * descriptors that do not block; whole transfers are in base/fd.h. */
gssize pipe_read_some(int fd, void *buf, gsize len);
gssize pipe_write_some(int fd, const void *buf, gsize len);

#endif
