/* Names of disks that an NBD server keeps, as texts: nbd://HOST[:PORT][/EXPORT] and
 * nbd+unix:///[EXPORT]?socket=PATH, as the NBD project's URI specification has them, and QEMU's older
 * nbd:HOST:PORT[:exportname=EXPORT] and nbd:unix:PATH[:exportname=EXPORT]. Connecting is
 * nbd_link.h's. */
#ifndef KHO_BLOCK_NBD_ADDRESS_H
#define KHO_BLOCK_NBD_ADDRESS_H

#include <glib.h>

/* Either a host with a port, or the path of a unix socket. */
typedef struct {
    char *host, *port;
    char *socket;
    char *export_name; /* "" is the server's default one */
} NbdAddress;

/* Does @name mean a server's disk rather than a file? */
gboolean nbd_address_is(const char *name);

/* NULL with KHO_ERROR_INVALID, or _UNSUPPORTED for what needs TLS. */
NbdAddress *nbd_address_parse(const char *name, GError **error);
void nbd_address_free(NbdAddress *address);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NbdAddress, nbd_address_free)

#endif
