/* Which blocks a file has for itself, so that writing there takes no space. How much is free lives in
 * entry.h.
 */
#ifndef KHO_BASE_ROOM_H
#define KHO_BASE_ROOM_H

#include <glib.h>

/* To the end of all that a file may have, also behind its last byte. */
#define ROOM_TO_END G_MAXINT64

/* How many of the @len bytes from @off on lie in blocks that the file has already and shares with no other
 * one, written to or not. FALSE where the file system does not tell; a device has all that it needs. */
gboolean room_own(int fd, guint64 off, guint64 len, guint64 *own);

/* What the file system keeps for root beside what is free to all, where this process is root. */
guint64 room_reserve(int fd);

#endif
