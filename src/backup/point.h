/* Points in a store: where they lie, which there are, what each says of itself. A store is a folder on
 * whatever file system: STORE/MACHINE/POINT/, and STORE/MACHINE/.POINT.part/ for one that is not whole. What
 * is in a manifest is manifest.h's business; making and restoring points are in create.h and restore.h. */
#ifndef KHO_BACKUP_POINT_H
#define KHO_BACKUP_POINT_H

#include "backup/manifest.h"

/* In a part folder from its first moment to its last: which backup makes it, locked by who does. */
#define BACKUP_MARK_FILE "unfinished.json"

/* Each returns a new string. */
char *backup_machine_path(const char *store, const char *machine);
char *backup_point_path(const char *store, const char *machine, const char *point);
char *backup_part_path(const char *store, const char *machine, const char *point);

/* The store as an absolute path; NULL with KHO_ERROR_NOT_FOUND or _INVALID where it is no folder. */
char *backup_store_path(const char *store, GError **error);

/* Reads a point's manifest. Never NULL: what is wrong is its problem. */
KhoBackupPoint *backup_point_read(const char *store, const char *machine, const char *point);

/* The point that a person asks for, or with @point NULL the latest: one that can be used.
 * KHO_ERROR_NOT_FOUND, _INVALID (a name that no point has; which is the latest cannot be told), _CORRUPT,
 * _UNSUPPORTED. */
KhoBackupPoint *backup_point_find(const char *store, const char *machine, const char *point, GError **error);

/* The id that the mark in a part folder tells, NULL for none. *driven: (optional): whether its maker is at
 * it. */
char *backup_part_id(const char *part_path, gboolean *driven);

#endif
