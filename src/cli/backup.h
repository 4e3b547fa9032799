/* What the verbs on backups share. */
#ifndef KHO_CLI_BACKUP_H
#define KHO_CLI_BACKUP_H

#include "cli/verb.h"

#include <kho/backup.h>

/* jansson's, for those who print JSON. */
struct json_t;

/* The row of the argument that names a store; its struct has it as `store`. */
#define CLI_STORE_ARG(Args)                                                                                  \
    {                                                                                                        \
        CLI_STR, "STORE", offsetof(Args, store), NULL, "folder that holds backups", .object = CLI_FILE       \
    }

/* Sums over a point's disks. */
guint64 cli_backup_capacity(const KhoBackupPoint *point);
guint64 cli_backup_size(const KhoBackupPoint *point);

/* A point, with what is in its manifest. */
struct json_t *cli_backup_json(const KhoBackupPoint *point);

#endif
