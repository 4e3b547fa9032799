/* One connection to an NBD server, over libnbd, which is loaded when the first one is made: requests that end
 * by a deadline or a cancel whatever the server does. The only user of libnbd. A connection belongs to one
 * thread at a time; the disk that several of them make up is block/nbd.c. */
#ifndef KHO_BLOCK_NBD_LINK_H
#define KHO_BLOCK_NBD_LINK_H

#include "block/nbd_address.h"

typedef struct NbdLink NbdLink;

/* What holds for every request. */
typedef struct {
    const char *label;              /* names the disk in messages; outlives the connection */
    gint64 patience_ms;             /* a server that has not answered for so long is given up */
    const volatile gint *cancelled; /* non-zero ends the request under way; may be NULL */
} NbdTerms;

/* What the server said of its disk. */
typedef struct {
    guint64 bytes;
    guint32 block_bytes;   /* requests begin and end at multiples of it; a power of two */
    guint32 request_bytes; /* the most that one read or write moves; a multiple of block_bytes */
    gboolean writable, many_connections, can_flush, can_zero, can_trim, has_extents;
} NbdDisk;

/* How a range reads: ZERO reads as zeros. */
typedef struct {
    guint64 bytes;
    gboolean zero;
} NbdExtent;

/* Connects to @address, or over the socket @fd (taken over in every case) where that is not -1; @address then
 * only names the export. NULL with KHO_ERROR_UNSUPPORTED where libnbd is missing, _NOT_FOUND (nobody there,
 * or no such export), _TIMEOUT, _CANCELLED, _IO. */
NbdLink *nbd_link_open(const NbdAddress *address, int fd, const NbdTerms *terms, GError **error);
const NbdDisk *nbd_link_disk(const NbdLink *link);

/* After a failure of any of these, nbd_link_is_broken tells whether the connection still is of use: it is not
 * after a timeout or a cancel. @off and @len are multiples of block_bytes, within the disk; @len is at most
 * request_bytes for reads and writes and 1 GiB for the others. */
gboolean nbd_link_read(NbdLink *link, guint64 off, void *buf, gsize len, GError **error);
gboolean nbd_link_write(NbdLink *link, guint64 off, const void *buf, gsize len, GError **error);
/* @keep_space: what is zeroed keeps its place in the server's storage. */
gboolean nbd_link_zero(NbdLink *link, guint64 off, guint64 len, gboolean keep_space, GError **error);
gboolean nbd_link_trim(NbdLink *link, guint64 off, guint64 len, GError **error);
gboolean nbd_link_flush(NbdLink *link, GError **error);

/* Appends how the disk reads from @off on, for at most @len bytes, to @extents (of NbdExtent): one extent at
 * least. */
gboolean nbd_link_extents(NbdLink *link, guint64 off, guint64 len, GArray *extents, GError **error);

gboolean nbd_link_is_broken(NbdLink *link);

/* Tells the server, and does not wait for long. */
void nbd_link_free(NbdLink *link);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NbdLink, nbd_link_free)

#endif
