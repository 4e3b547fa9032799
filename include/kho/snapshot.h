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

#endif
