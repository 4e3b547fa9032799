#include "base/port.h"

#include "base/error.h"
#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* A number that is an address, of either version. */
typedef union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} Address;

static gboolean
parse_address(const char *text, Address *address, GError **error)
{
    *address = (Address){ .v4 = { .sin_family = AF_INET } };
    if (inet_pton(AF_INET, text, &address->v4.sin_addr) == 1)
        return TRUE;
    *address = (Address){ .v6 = { .sin6_family = AF_INET6 } };
    return inet_pton(AF_INET6, text, &address->v6.sin6_addr) == 1
           || fail(error, KHO_ERROR_INVALID, "'%s' is no IP address", text);
}

gboolean
port_find_free(const char *address, guint16 first, guint16 last, guint16 *port, GError **error)
{
    const int on = 1;
    Address at;

    if (!parse_address(address, &at, error))
        return FALSE;
    gboolean is_v4 = at.any.sa_family == AF_INET;
    for (guint32 candidate = first; candidate <= last; candidate++) {
        fd_auto int fd = socket(at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            return fail_errno(error, errno, "cannot make a socket");
        /* as QEMU does: a port whose last connection is still winding down counts as free */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        *(is_v4 ? &at.v4.sin_port : &at.v6.sin6_port) = htons((guint16) candidate);
        if (bind(fd, &at.any, is_v4 ? sizeof at.v4 : sizeof at.v6) == 0 && listen(fd, 1) == 0) {
            *port = (guint16) candidate;
            return TRUE;
        }
        if (errno != EADDRINUSE && errno != EACCES)
            return fail_errno(error, errno, "cannot listen on %s", address);
    }
    return fail(error, KHO_ERROR_BUSY, "no port of %s from %u to %u is free", address, first, last);
}
