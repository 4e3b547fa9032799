#include "base/sock.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Through /proc, so that only @name counts towards the 107 bytes: a folder of any depth will do. */
static gboolean
address_of(int dirfd, const char *name, struct sockaddr_un *address, GError **error)
{
    *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    int n = g_snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", dirfd, name);
    if (n < 0 || (gsize) n >= sizeof address->sun_path)
        return fail(error, KHO_ERROR_INVALID, "socket name '%s' is too long", name);
    return TRUE;
}

int
sock_listen(int dirfd, const char *name, GError **error)
{
    struct sockaddr_un address;
    fd_auto int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        fail_errno(error, errno, "cannot make a socket for %s", name);
        return -1;
    }
    if (!address_of(dirfd, name, &address, error))
        return -1;
    /* The mode of the inode at the bind is that of the descriptor: nobody can slip in before a chmod. */
    if (fchmod(fd, 0600) != 0) {
        fail_errno(error, errno, "cannot set the rights of socket %s", name);
        return -1;
    }
    unlinkat(dirfd, name, 0);
    if (bind(fd, (struct sockaddr *) &address, sizeof address) != 0 || listen(fd, 128) != 0) {
        fail_errno(error, errno, "cannot listen on socket %s", name);
        return -1;
    }
    return fd_steal(&fd);
}

/* A unix connect is done at once or finds the queue full (EAGAIN), for which there is no event: a blocking
 * one with a send timeout waits in the kernel instead. */
static gboolean
set_connect_timeout(int fd, gint64 deadline_ms)
{
    int left_ms = deadline_left(deadline_ms);
    struct timeval wait = { 0 }; /* no limit */

    if (left_ms >= 0)
        wait = (struct timeval){ .tv_sec = left_ms / 1000, .tv_usec = MAX(left_ms % 1000 * 1000, 1) };
    return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) == 0;
}

int
sock_connect(int dirfd, const char *name, gint64 deadline_ms, GError **error)
{
    struct sockaddr_un address;
    fd_auto int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int result;

    if (!address_of(dirfd, name, &address, error))
        return -1;
    if (fd < 0 || !set_connect_timeout(fd, deadline_ms)) {
        fail_errno(error, errno, "cannot make a socket for %s", name);
        return -1;
    }
    do
        result = connect(fd, (struct sockaddr *) &address, sizeof address);
    while (result != 0 && errno == EINTR);
    if (result == 0)
        return fd_steal(&fd);
    if (errno == ECONNREFUSED || errno == ENOENT)
        fail(error, KHO_ERROR_NOT_FOUND, "nobody listens on socket %s", name);
    else if (errno == EAGAIN)
        fail(error, KHO_ERROR_TIMEOUT, "socket %s: no answer in time", name);
    else
        fail_errno(error, errno, "cannot connect to socket %s", name);
    return -1;
}

int
sock_accept(int fd, GError **error)
{
    int peer;

    do
        peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    while (peer < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (peer < 0 && errno != EAGAIN)
        fail_errno(error, errno, "cannot accept a connection");
    return peer;
}

gboolean
sock_peer(int fd, uid_t *uid, pid_t *pid, GError **error)
{
    struct ucred who;
    socklen_t len = sizeof who;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0)
        return fail_errno(error, errno, "cannot tell who connected");
    *uid = who.uid;
    *pid = who.pid;
    return TRUE;
}

gboolean
sock_pair(int *one, int *other, GError **error)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return fail_errno(error, errno, "cannot make a pair of sockets");
    *one = ends[0];
    *other = ends[1];
    return TRUE;
}

void
sock_end_sending(int fd)
{
    shutdown(fd, SHUT_WR);
}

gssize
sock_send_some_with(int fd, const void *buf, gsize len, int passed)
{
    union {
        struct cmsghdr header; /* for its alignment */
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec part = { .iov_base = (void *) buf, .iov_len = len };
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    gssize n;

    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof passed);
    memcpy(CMSG_DATA(rights), &passed, sizeof passed);
    do
        n = sendmsg(fd, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n;
}

int
sock_receive_fd(int fd, gint64 deadline_ms, const char *what, GError **error)
{
    union {
        struct cmsghdr header; /* for its alignment */
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    char byte;
    struct iovec part = { .iov_base = &byte, .iov_len = 1 };
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    gssize n;
    int passed;

    if (!pipe_wait_readable(fd, deadline_ms, what, error))
        return -1;
    do
        n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    struct cmsghdr *rights = n == 1 ? CMSG_FIRSTHDR(&message) : NULL;
    if (!rights || rights->cmsg_type != SCM_RIGHTS || rights->cmsg_len != CMSG_LEN(sizeof passed)) {
        fail(error, KHO_ERROR_IO, "%s: no descriptor came", what);
        return -1;
    }
    memcpy(&passed, CMSG_DATA(rights), sizeof passed);
    return passed;
}

gssize
sock_send_some(int fd, const void *buf, gsize len)
{
    gssize n;

    do
        n = send(fd, buf, len, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n;
}
