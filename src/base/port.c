#include "base/port.h"

#include "base/error.h"
#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

gboolean
port_find_free(const char *address, guint16 first, guint16 last, guint16 *port, GError **error)
{
    struct sockaddr_in at = { .sin_family = AF_INET };
    const int on = 1;

    if (inet_pton(AF_INET, address, &at.sin_addr) != 1)
        return fail(error, KHO_ERROR_INVALID, "'%s' is no IPv4 address", address);
    for (guint32 candidate = first; candidate <= last; candidate++) {
        fd_auto int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            return fail_errno(error, errno, "cannot make a socket");
        /* as QEMU does: a port whose last connection is still winding down counts as free */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        at.sin_port = htons((guint16) candidate);
        if (bind(fd, (const struct sockaddr *) &at, sizeof at) == 0 && listen(fd, 1) == 0) {
            *port = (guint16) candidate;
            return TRUE;
        }
        if (errno != EADDRINUSE && errno != EACCES)
            return fail_errno(error, errno, "cannot listen on %s", address);
    }
    return fail(error, KHO_ERROR_BUSY, "no port of %s from %u to %u is free", address, first, last);
}
