/* The manifest of a backup as text: JSON that holds sizes and SHA-256 of the point's files, and of itself.
 * Pure: which files there are, and what of them is read, is point.h's and verify.h's business. docs/json.md
 * describes the text. */
#ifndef KHO_BACKUP_MANIFEST_H
#define KHO_BACKUP_MANIFEST_H

#include <kho/backup.h>

#define BACKUP_MANIFEST_VERSION 1
#define BACKUP_MANIFEST_FILE    "manifest.json"
#define BACKUP_XML_FILE         "domain.xml"

/* No manifest is larger: 1,000 disks with names and paths of 4 KiB make 9 MiB. */
#define BACKUP_MANIFEST_MAX_BYTES (16 << 20)
#define BACKUP_DISKS_MAX          1000

/* The text of @point's members below the folder's names; ends with a line feed. NULL where no SHA-256 can be
 * made. */
char *backup_manifest_format(const KhoBackupPoint *point, GError **error);

/**
 * backup_manifest_parse:
 * @point: its members below the folder's names are filled in, on success only
 * @label: for messages: the file's path
 *
 * Returns: FALSE with KHO_ERROR_CORRUPT where the text is not as it was written, naming both hashes where
 * that is how it is known; _UNSUPPORTED where a newer kho wrote it.
 */
gboolean
backup_manifest_parse(const char *text, gsize len, const char *label, KhoBackupPoint *point, GError **error);

/* Empty ones, to be filled in. */
KhoBackupPoint *backup_point_new(const char *machine, const char *name, const char *path);
KhoBackupDisk *backup_disk_add(KhoBackupPoint *point, const char *target);
KhoBackupLeftOut *
backup_left_out_add(KhoBackupPoint *point, const char *what, const char *target, const char *source);

#endif
