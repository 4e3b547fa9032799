/* Snapshots of machines: take, list, look at, go back to, delete. All are external: a snapshot closes the
 * files that the machine's disks are in, and writes go to new files over them; its memory is a file of its
 * own. */
#ifndef KHO_SNAPSHOT_H
#define KHO_SNAPSHOT_H

#include <kho/domain.h>

/* A file that a snapshot closed, of the disk @target ("vda"). */
typedef struct KhoSnapshotDisk {
    char *target, *file, *format;
} KhoSnapshotDisk;

typedef struct KhoSnapshot {
    char *name;
    char *description; /* NULL: none */
    char *parent;      /* NULL: none */
    const char *state; /* what the machine did then: "running", "paused", "shutoff", ...; "disk-snapshot": it
                          ran, and its memory was not kept */
    gint64 created_s;  /* since 1970; 0: not known */
    gint64 pause_ms;   /* for how long the guest stood still; -1: it did not run, or it is not known */
    char *memory_file; /* NULL: none */
    gboolean current;  /* what the machine does now goes on from it */
    gboolean deleting; /* a delete was interrupted past its first write: only another delete can follow */
    guint children, descendants;
    GPtrArray *disks; /* of KhoSnapshotDisk */
} KhoSnapshot;

KHO_PUBLIC void kho_snapshot_free(KhoSnapshot *snapshot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KhoSnapshot, kho_snapshot_free)

/* KhoSnapshot *, owned by the array, by name. */
KHO_PUBLIC GPtrArray *kho_snapshot_list(KhoDomain *domain, GError **error);
/* NULL with KHO_ERROR_NOT_FOUND. */
KHO_PUBLIC KhoSnapshot *kho_snapshot_info(KhoDomain *domain, const char *name, GError **error);
/* Its <domainsnapshot>. */
KHO_PUBLIC char *kho_snapshot_xml(KhoDomain *domain, const char *name, GError **error);
/* The name of the current one; NULL with KHO_ERROR_NOT_FOUND where there is none. */
KHO_PUBLIC char *kho_snapshot_current(KhoDomain *domain, GError **error);

/* What is wanted of one disk. */
typedef struct KhoSnapshotDiskSpec {
    const char *target;
    gboolean leave_out;
    const char
        *file; /* absolute: the new file that writes go to; NULL: STEM.N.qcow2 beside the disk's file */
} KhoSnapshotDiskSpec;

typedef struct KhoSnapshotCreate {
    const char *name;        /* NULL: the time, as seconds since 1970 */
    const char *description; /* NULL: none */
    gboolean disk_only;      /* without the memory of a machine that runs */
    const char *memory_file; /* absolute; NULL: in the tree */
    gboolean quiesce;        /* ask the guest's agent to freeze its file systems meanwhile */
    const KhoSnapshotDiskSpec *disks;
    gsize n_disks;
} KhoSnapshotCreate;

/**
 * kho_snapshot_create:
 *
 * Takes a snapshot of all disks that are written (and, of a machine that runs, of its memory), all at one
 * moment. What the disks hold is never written again while the snapshot stands; the machine goes on in new
 * files.
 *
 * Returns: its name; NULL with KHO_ERROR_EXISTS (the name, a file), _INVALID, _UNSUPPORTED, _NOT_FOUND (a
 * disk, a file of a chain), _BUSY (an image is in use, or the machine is being changed), _NO_SPACE,
 * _CANCELLED: the old state holds then.
 */
KHO_PUBLIC char *
kho_snapshot_create(KhoDomain *domain, const KhoSnapshotCreate *options, const KhoJob *job, GError **error);

/* What the machine does after it went back. */
typedef enum {
    KHO_REVERT_AS_TAKEN, /* what it did then, where its memory was kept; otherwise it is shut off */
    KHO_REVERT_RUNNING,
    KHO_REVERT_PAUSED
} KhoRevertTo;

/* Brings the machine back to what it was when the snapshot was taken; what it did since, and no snapshot
 * keeps, is lost. One that runs is ended for it. The old state holds where this fails, except that a machine
 * that does not start is left shut off, at the snapshot. KHO_ERROR_INVALID for one that is half deleted, and
 * where a file was changed since a snapshot closed it, unless @force takes it as it is; a memory whose file
 * is lost is done without then, too. */
KHO_PUBLIC gboolean kho_snapshot_revert(KhoDomain *domain, const char *name, KhoRevertTo to, gboolean force,
                                        const KhoJob *job, GError **error);

typedef enum {
    KHO_SNAPSHOT_DELETE_CHILDREN = 1 << 0,      /* and all that came from it */
    KHO_SNAPSHOT_DELETE_CHILDREN_ONLY = 1 << 1, /* not itself */
    KHO_SNAPSHOT_DELETE_METADATA = 1 << 2,      /* forget it, and leave all files as they are */
    /* merge files as they are now that were changed since they were closed; and images that cannot be looked
     * at are taken to need none of them */
    KHO_SNAPSHOT_DELETE_FORCE = 1 << 3,
} KhoSnapshotDeleteFlags;

/**
 * kho_snapshot_delete:
 * @left: (out) (nullable): char *, owned by the array: a line for each image file that stays although the
 * machine and its snapshots do not need it any more: kho did not make it, or something lies on it that was
 * the machine's, and that it does not use any more. Such files are neither merged nor removed. And what
 * could not be removed in the end, and why
 *
 * Deletes a snapshot; what the machine and its other snapshots read does not change. What its disks' files
 * hold and later ones need goes into those, or the other way round: into the one that kho did not make, else
 * whichever moves less.
 *
 * Returns: FALSE with KHO_ERROR_CANCELLED or what went wrong; the old state holds then, or, where something
 * was written already that the snapshot cannot bear, it shows as `deleting`, and another delete goes on.
 * KHO_ERROR_UNSUPPORTED where several files follow one of its own, _BUSY (also where an image that may
 * need them cannot be looked at now, unless forced), _NO_SPACE with the figures,
 * _INVALID where a file was changed since a snapshot closed it, or what lies on it, unless
 * KHO_SNAPSHOT_DELETE_FORCE takes it as it is.
 */
KHO_PUBLIC gboolean kho_snapshot_delete(KhoDomain *domain, const char *name, KhoSnapshotDeleteFlags flags,
                                        const KhoJob *job, GPtrArray **left, GError **error);

/* Whether the file at @path may be written: KHO_ERROR_BUSY where a snapshot of any machine closed it, or
 * what lies on it, naming both and the way out, or where kho_snapshot_check_read refuses. Who writes images
 * asks; machines ask for their disks when they start. */
KHO_PUBLIC gboolean kho_snapshot_check_file(KhoHost *host, const char *path, GError **error);
/* Whether what is read through the image at @path (@format NULL: its header says) stays what it is:
 * KHO_ERROR_BUSY where a snapshot's delete is changing a file of its chain, naming the snapshot and the way
 * out. Who reads images, or lets one name another, asks. */
KHO_PUBLIC gboolean kho_snapshot_check_read(KhoHost *host, const char *path, const char *format,
                                            GError **error);
/* Asks once more of a qcow2 image that was just made at @path, and whether its backing file is still there
 * (KHO_ERROR_NOT_FOUND): deletes that begin later see it. Where this fails, the image is to be removed. */
KHO_PUBLIC gboolean kho_snapshot_check_built(KhoHost *host, const char *path, GError **error);
/* kho_snapshot_check_file and that for all that the machine's definition lets it write: whether its next
 * start will be refused. */
KHO_PUBLIC gboolean kho_snapshot_check_disks(KhoDomain *domain, GError **error);

#endif
