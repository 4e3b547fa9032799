/* Raw images: the guest's bytes are the file's bytes. Here lives the format; files and devices are block/'s.
 */
#ifndef KHO_RAW_RAW_H
#define KHO_RAW_RAW_H

#include "block/format.h"

/* The virtual disk is the file rounded up to whole sectors of 512 bytes, as QEMU has it; what the file lacks
 * of its last sector reads as zeros. Holes of the file are RUN_ZERO without space. Every place is in place,
 * check is KHO_ERROR_UNSUPPORTED, and probe never claims an image. */
extern const FormatOps raw_format;

#endif
