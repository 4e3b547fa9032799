#include "base/crc.h"

#include <isa-l/crc.h>

guint32
crc32_add(guint32 crc, const void *bytes, gsize len)
{
    return crc32_gzip_refl(crc, bytes, len);
}
