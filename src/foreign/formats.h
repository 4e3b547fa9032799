/* The formats that QEMU's storage daemon reads and writes for kho: their names, what their files begin with,
 * and the options that their makers take. No more of them is known here. */
#ifndef KHO_FOREIGN_FORMATS_H
#define KHO_FOREIGN_FORMATS_H

#include "base/json.h"

/* The name of the format that a file beginning with @head (up to 512 bytes) is of, or NULL. LUKS is not told,
 * since a raw disk may well begin so; some formats have no such mark (dmg, vpc of fixed size). */
const char *foreign_format_probe(const guint8 *head, gsize len);

/* The same name, for as long as the program runs, or NULL where there is no such format. */
const char *foreign_format_find(const char *name);

/* Whether its images may lie on others. */
gboolean foreign_format_has_backing(const char *name);

/* "vmdk, vdi, ..." for messages. */
const char *foreign_format_names(void);

/* What QEMU is asked to make: @options are "NAME=VALUE" as for qemu-img, NULL-terminated, or NULL. NULL with
 * KHO_ERROR_UNSUPPORTED where the format cannot be made, _INVALID where it has no such option. */
json_t *foreign_format_create_options(const char *format, guint64 size_bytes, const char *const *options,
                                      GError **error);

/* What a new image of this kind must be written in: whole, once, and in order; 1: as one likes. */
guint32 foreign_format_unit_bytes(const char *format, const char *const *options);

#endif
