#include "base/crc.h"

#include <zlib.h>

guint32
crc32_add(guint32 crc, const void *bytes, gsize len)
{
    return (guint32) crc32_z(crc, bytes, len);
}
