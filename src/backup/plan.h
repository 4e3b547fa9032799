/* What a backup decides before its first effect: which disks of a machine go into which point of which store.
 * As a struct, and as the journal's JSON. Nothing is written here; carrying it out is create.h's. */
#ifndef KHO_BACKUP_PLAN_H
#define KHO_BACKUP_PLAN_H

#include "backup/point.h"
#include "base/json.h"
#include "model/domain.h"

/* A disk of the machine that goes into the point; the point's disks are in the same order. */
typedef struct BackupSource {
    char *path, *format; /* the file that the guest writes, as the definition states it */
    char *alias;         /* of the running machine's disk; NULL: it does not run */
} BackupSource;

typedef struct BackupPlan {
    char *store;    /* absolute */
    char *run_path; /* of the running machine; NULL: it is shut off, and its images are read here */
    char *emulator; /* the machine's QEMU */
    char *xml;      /* the definition that goes into the point */
    gboolean compress;
    gint64 first_fdset;    /* of a running machine's QEMU: one a disk from here on, never used before */
    KhoBackupPoint *point; /* what is known before the copy */
    GPtrArray *sources;    /* of BackupSource */
} BackupPlan;

/* What is asked for. All borrowed. */
typedef struct BackupRequest {
    const KhoBackupCreate *options;
    const ModelDomain *model; /* completed: the definition, or the live one of a machine that runs */
    const char *state;        /* "running", "shut off", ... */
    const char *run_path;     /* NULL: it does not run */
    const char *memory;       /* its managed save, which is left out; NULL: it has none */
} BackupRequest;

/**
 * backup_plan_make:
 *
 * Looks at the store and sorts the machine's disks. KHO_ERROR_NOT_FOUND, _INVALID, _DENIED (the store),
 * _EXISTS (the point), _BUSY (it is being made), _UNSUPPORTED (a disk that is no file).
 */
BackupPlan *backup_plan_make(const BackupRequest *request, GError **error);

/* FALSE with KHO_ERROR_NO_SPACE and the figure where it is known that the store is too full; with the errors
 * of opening the images, and _BUSY, where the machine does not run. */
gboolean backup_plan_check_room(const BackupPlan *plan, GError **error);

json_t *backup_plan_to_json(const BackupPlan *plan);
BackupPlan *backup_plan_from_json(const json_t *json, GError **error);

void backup_plan_free(BackupPlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BackupPlan, backup_plan_free)

/* Where its files are while it is made, and which they are; new strings. */
char *backup_plan_part(const BackupPlan *plan);
char *backup_plan_file(const BackupPlan *plan, const char *file);

#endif
