/* What pool and vol verbs share: the host, and sizes as virsh prints them. */
#ifndef KHO_CLI_STORAGE_H
#define KHO_CLI_STORAGE_H

#include "cli/host.h"

#include <kho/storage.h>

/* "10.00 GiB"; plain bytes with @as_bytes. */
char *storage_size(guint64 bytes, gboolean as_bytes);

#endif
