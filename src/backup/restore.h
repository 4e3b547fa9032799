/* Bringing a machine back from a point: what goes where, and the steps of the change "restore-backup". Names,
 * uuids and pools are looked up, and locks held, by host/. */
#ifndef KHO_BACKUP_RESTORE_H
#define KHO_BACKUP_RESTORE_H

#include "backup/point.h"
#include "base/json.h"
#include "model/domain.h"
#include "store/change.h"

/* A disk on its way. */
typedef struct RestoreDisk {
    char *target, *source, *sha256; /* the point's file */
    guint64 capacity_bytes;         /* as the manifest says; not in the journal */
    char *path, *format;            /* the machine's */
    char *pool;                     /* uuid of the pool that @path is a volume of; NULL: none */
    char *hidden;                   /* beside @path: what is copied has this name until all disks are there */
    gboolean renamed; /* not in the journal: its hidden name became its own, where no file has two names */
} RestoreDisk;

typedef struct RestorePlan {
    char *id;          /* of this restore; part of the hidden names */
    char *name, *uuid; /* of the machine */
    char *xml;         /* its definition */
    GPtrArray *disks;  /* of RestoreDisk */
} RestorePlan;

/* What is asked for. All borrowed. */
typedef struct RestoreRequest {
    const KhoBackupPoint *point;
    ModelDomain *model;  /* by restore_read_model; takes the new paths */
    gboolean keep_paths; /* where the disks were, when all of that is free */
    const char *folder;  /* where they go otherwise */
} RestoreRequest;

/* The machine that the point holds, with the point's hash checked; KHO_ERROR_CORRUPT names file and hashes.
 */
ModelDomain *restore_read_model(const KhoBackupPoint *point, GError **error);

/* Makes @model another machine: name, uuid and MACs of its own. Complete it anew then. */
void restore_rename(ModelDomain *model, const char *name);

/* Decides every path, and gives them to the model. KHO_ERROR_EXISTS where a file stands in the way, _CORRUPT
 * where model and manifest do not agree. */
RestorePlan *restore_plan_make(const RestoreRequest *request, GError **error);

/* FALSE with KHO_ERROR_NO_SPACE and the figure; _CORRUPT where a file of the point is damaged in a way that
 * keeps it from being looked at. Reads tables only. */
gboolean restore_plan_check_room(const RestorePlan *plan, const KhoJob *job, GError **error);

json_t *restore_plan_to_json(const RestorePlan *plan);
RestorePlan *restore_plan_from_json(const json_t *json, GError **error);

void restore_plan_free(RestorePlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RestorePlan, restore_plan_free)

/* FALSE, with KHO_ERROR_CORRUPT naming the file and both hashes, where it is not as the manifest says;
 * otherwise TRUE. What keeps it from being read is @error too. */
gboolean restore_check_file(const RestoreDisk *disk, const KhoJob *job, GError **error);

/* place-disks, name-disks, define!; its plan is restore_plan_to_json's. The caller holds the lock of the
 * machine's name meanwhile. */
extern const ChangeKind restore_change;

#endif
