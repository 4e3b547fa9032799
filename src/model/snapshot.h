/* A snapshot of a machine as a plain struct, and its XML in both directions: libvirt's <domainsnapshot>, with
 * what kho must know beside it in a namespace of our own. Pure; where snapshots are kept, and what is done
 * with them, is in snapshot/. */
#ifndef KHO_MODEL_SNAPSHOT_H
#define KHO_MODEL_SNAPSHOT_H

#include "model/domain.h"

/* The version of our additions that this kho writes and reads. */
#define MODEL_SNAPSHOT_VERSION 1
#define MODEL_SNAPSHOT_URI     "urn:kho:snapshot"

/* What the machine did when it was taken. */
typedef enum {
    MODEL_SNAPSHOT_STATE_UNSET,
    MODEL_SNAPSHOT_NOSTATE,
    MODEL_SNAPSHOT_RUNNING,
    MODEL_SNAPSHOT_BLOCKED,
    MODEL_SNAPSHOT_PAUSED,
    MODEL_SNAPSHOT_SHUTDOWN,
    MODEL_SNAPSHOT_SHUTOFF,
    MODEL_SNAPSHOT_CRASHED,
    MODEL_SNAPSHOT_PMSUSPENDED,
    MODEL_SNAPSHOT_DISK_ONLY /* "disk-snapshot": it ran, and its memory was not kept */
} ModelSnapshotState;

typedef enum {
    MODEL_LOCATION_UNSET,
    MODEL_LOCATION_NO,
    MODEL_LOCATION_INTERNAL,
    MODEL_LOCATION_EXTERNAL,
    MODEL_LOCATION_MANUAL /* disks only */
} ModelLocation;

/* <disks><disk>: a disk of the machine, and the file that its writes go to from the snapshot on. */
typedef struct {
    ModelNode node;
    char *name; /* the target, "vda" */
    ModelLocation location;
    ModelSourceType type;
    char *format;      /* of @source_file */
    char *source_file; /* NULL where the disk takes no part */
} ModelSnapshotDisk;

/* <kho:disk>: the file that the snapshot closed; <kho:below>: one that this one lies on, or keeps its data
 * in.
 */
typedef struct {
    ModelNode node;
    char *name;          /* the target */
    char *file, *format; /* absolute; the format of a <kho:below> is NULL */
    char *stamp; /* "BYTES:SECONDS.NANOSECONDS": its size and when it was written last; NULL: unknown */
} ModelSnapshotFile;

typedef struct {
    ModelNode node;
    char *name; /* never NULL after parsing */
    char *description, *parent;
    ModelSnapshotState state;
    gint64 created_s; /* MODEL_UNSET: not known */
    ModelLocation memory;
    char *memory_file;
    GPtrArray *disks;     /* ModelSnapshotDisk: all of the machine */
    GPtrArray *domains;   /* ModelDomain: the machine as it was, live where it ran; one, or none */
    GPtrArray *inactive;  /* ModelDomain: its definition, where that was another; one, or none */
    gint version;         /* MODEL_UNSET: none of our additions is there */
    ModelSwitch deleting; /* on: a delete has begun to write into its files; it can only be finished */
    gint pause_ms;        /* how long the guest stood still for it; MODEL_UNSET: it did not run */
    GPtrArray *files;     /* ModelSnapshotFile */
    GPtrArray *below;     /* ModelSnapshotFile: but for those that snapshots of the machine closed */
} ModelSnapshot;          /* the lists are never NULL */

/* As model_domain_parse. KHO_ERROR_UNSUPPORTED where a newer kho wrote it. */
ModelSnapshot *model_snapshot_parse(const char *text, gsize len, GError **error);
char *model_snapshot_format(const ModelSnapshot *snapshot);
ModelSnapshot *model_snapshot_new(const char *name);
void model_snapshot_free(ModelSnapshot *snapshot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ModelSnapshot, model_snapshot_free)

void model_snapshot_add_disk(ModelSnapshot *snapshot, const char *name, ModelLocation location,
                             const char *file, const char *format);
void model_snapshot_add_file(ModelSnapshot *snapshot, const char *name, const char *file, const char *format);
void model_snapshot_add_below(ModelSnapshot *snapshot, const char *name, const char *file, const char *stamp);
/* Keep copies. @inactive may be NULL. */
void
model_snapshot_set_domain(ModelSnapshot *snapshot, const ModelDomain *domain, const ModelDomain *inactive);

/* The file that it closed of disk @name, or NULL. */
ModelSnapshotFile *model_snapshot_file(const ModelSnapshot *snapshot, const char *name);
/* Lets everything in it that names the file @from name @to with @format instead; whether there was anything.
 */
gboolean
model_snapshot_move_file(ModelSnapshot *snapshot, const char *from, const char *to, const char *format);
/* Takes the file away that it closed of disk @name; whether there was one. */
gboolean model_snapshot_drop_file(ModelSnapshot *snapshot, const char *name);
/* The definition of the machine when it was taken; NULL where the text had none. */
const ModelDomain *model_snapshot_definition(const ModelSnapshot *snapshot);

/* Words as the XML has them; NULL for UNSET. */
const char *model_snapshot_state_word(ModelSnapshotState state);
const char *model_location_word(ModelLocation location);

#endif
