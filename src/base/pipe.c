#include "base/pipe.h"

#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

/* A flag that a signal sets sends no event where the signal comes just before the wait. */
#define CANCEL_LOOK_MS 100

gint64
clock_now_ms(void)
{
    return g_get_monotonic_time() / 1000;
}

gint64
clock_wall_ms(void)
{
    return g_get_real_time() / 1000;
}

int
deadline_left(gint64 deadline_ms)
{
    if (deadline_ms == DEADLINE_NEVER)
        return -1;
    return (int) CLAMP(deadline_ms - clock_now_ms(), 0, G_MAXINT);
}

void
clock_pause(guint ms)
{
    poll(NULL, 0, (int) ms);
}

gboolean
pipe_make(int *read_end, int *write_end, GError **error)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) != 0)
        return fail_errno(error, errno, "cannot make a pipe");
    *read_end = ends[0];
    *write_end = ends[1];
    return TRUE;
}

int
pipe_memory(const char *label, const void *bytes, gsize len, GError **error)
{
    fd_auto int fd = memfd_create(label, MFD_CLOEXEC);

    if (fd < 0) {
        fail_errno(error, errno, "cannot make a file in memory for %s", label);
        return -1;
    }
    return fd_pwrite_full(fd, bytes, len, 0, label, error) ? fd_steal(&fd) : -1;
}

gboolean
pipe_make_fifo(int dirfd, const char *name, GError **error)
{
    return mkfifoat(dirfd, name, 0600) == 0 || errno == EEXIST
           || fail_errno(error, errno, "cannot make the fifo %s", name);
}

static gboolean
wait_for(int fd, short events, gint64 deadline_ms, const char *what, GError **error)
{
    struct pollfd poller = { .fd = fd, .events = events };

    for (;;) {
        int n = poll(&poller, 1, deadline_left(deadline_ms));
        if (n > 0)
            return TRUE;
        if (n == 0)
            return fail(error, KHO_ERROR_TIMEOUT, "%s: no answer in time", what);
        if (errno != EINTR)
            return fail_errno(error, errno, "cannot wait for %s", what);
    }
}

gboolean
pipe_wait_readable(int fd, gint64 deadline_ms, const char *what, GError **error)
{
    return wait_for(fd, POLLIN, deadline_ms, what, error);
}

gboolean
pipe_wait_unless(int fd, gint64 deadline_ms, const volatile gint *cancelled, const char *what, GError **error)
{
    for (;;) {
        g_autoptr(GError) why = NULL;
        if (cancelled && g_atomic_int_get(cancelled) != 0)
            return fail(error, KHO_ERROR_CANCELLED, "cancelled while waiting for %s", what);
        gint64 step_ms = cancelled ? MIN(deadline_ms, deadline_in(CANCEL_LOOK_MS)) : deadline_ms;
        if (pipe_wait_readable(fd, step_ms, what, &why))
            return TRUE;
        if (step_ms == deadline_ms || !g_error_matches(why, KHO_ERROR, KHO_ERROR_TIMEOUT)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
    }
}

gboolean
pipe_wait_writable(int fd, gint64 deadline_ms, const char *what, GError **error)
{
    return wait_for(fd, POLLOUT, deadline_ms, what, error);
}

gboolean
pipe_set_nonblock(int fd, gboolean nonblock, const char *label, GError **error)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, nonblock ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) != 0)
        return fail_errno(error, errno, "cannot change how %s blocks", label);
    return TRUE;
}

gssize
pipe_read_some(int fd, void *buf, gsize len)
{
    gssize n;

    do
        n = read(fd, buf, len);
    while (n < 0 && errno == EINTR);
    return n;
}

gssize
pipe_write_some(int fd, const void *buf, gsize len)
{
    gssize n;

    do
        n = write(fd, buf, len);
    while (n < 0 && errno == EINTR);
    return n;
}
