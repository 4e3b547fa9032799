/* What pool and vol verbs share: the host, sizes as virsh prints them, files of XML. */
#ifndef KHO_CLI_STORAGE_H
#define KHO_CLI_STORAGE_H

#include "cli/verb.h"

#include <kho/storage.h>

/* The host of --root, whose waits for locks end with Ctrl-C. */
KhoHost *storage_host(const CliRun *cli, GError **error);

/* "10.00 GiB"; plain bytes with @as_bytes. */
char *storage_size(guint64 bytes, gboolean as_bytes);

/* The text of an XML file; storage_blame puts its name before an error that says a line of it. */
char *storage_read_xml(const char *path, gsize *len, GError **error);
void storage_blame(const char *path, GError **error);

#endif
