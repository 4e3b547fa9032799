/* The disk of an NBD server as a store: as many connections as the server allows and threads use, large
 * requests in pieces, and what the server has holes for. It neither grows nor shrinks. */
#ifndef KHO_BLOCK_NBD_H
#define KHO_BLOCK_NBD_H

#include "block/blk.h"

#include <kho/job.h>

/* Does @name mean a server's disk ("nbd://host/export", "nbd+unix:///export?socket=PATH") rather than a file?
 */
gboolean blk_nbd_is_name(const char *name);

/* Connects to the disk that @name means. @job (may be NULL) cancels whatever waits for the server.
 * KHO_ERROR_DENIED where it is to be written and the server does not allow that; otherwise as
 * nbd_link_open. */
BlkStore *blk_nbd_open(const char *name, gboolean writable, const KhoJob *job, GError **error);

/* The same over sockets that are connected to one server already, as many as there are to be; all of @fds are
 * taken over in every case. */
BlkStore *blk_nbd_over(const int *fds, guint n_fds, const char *label, gboolean writable, const KhoJob *job,
                       GError **error);

#endif
