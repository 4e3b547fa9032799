/* CRC-32 of bytes that come in pieces: finds damage, not intent. */
#ifndef KHO_BASE_CRC_H
#define KHO_BASE_CRC_H

#include <glib.h>

/* Goes on from @crc, which is 0 at the beginning: the CRC of gzip and of zip. */
guint32 crc32_add(guint32 crc, const void *bytes, gsize len);

#endif
