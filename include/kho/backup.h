/* Backups: points of machines in a store, which is a folder of whatever file system. Here live making,
 * listing, verifying and restoring them. What a point is on disk: STORE/MACHINE/POINT/ with a qcow2 file for
 * each disk, domain.xml, and manifest.json, which holds sizes and SHA-256 of the others and of itself. */
#ifndef KHO_BACKUP_H
#define KHO_BACKUP_H

#include <kho/host.h>

typedef struct KhoDomain KhoDomain; /* kho/domain.h */

/* --- what is in a store: no host is needed for it ------------------------------------------------------- */

/* A disk as a point holds it: all that its guest could read, in one file without a backing file. */
typedef struct KhoBackupDisk {
    char *target; /* "vda" */
    char *file;   /* "vda.qcow2", in the point's folder */
    char *format; /* "qcow2" */
    guint64 capacity_bytes, size_bytes;
    char *sha256;
    char *compression; /* "zstd", "zlib", "none" */
} KhoBackupDisk;

/* What the machine has and the point does not: read-only disks, drives of removable media, boot files, and
 * the memory of a managed save: the disks are those of a guest in mid-run then. */
typedef struct KhoBackupLeftOut {
    char *what;   /* "disk", "cdrom", "floppy", "kernel", "initrd", "loader", "nvram", "memory" */
    char *target; /* NULL for what is no disk */
    char *source; /* its path */
} KhoBackupLeftOut;

typedef struct KhoBackupPoint {
    char *machine, *point; /* the folders' names */
    char *path;            /* of the point's folder */
    gboolean
        unfinished; /* it is being made, or was left by a backup that was killed: no backup; has a problem */
    char *problem;  /* one line: why it cannot be used; NULL normally */
    KhoErrorCode
        problem_code; /* CORRUPT: damaged; UNSUPPORTED: a newer kho made it; INVALID: unfinished; ... */

    /* From the manifest: NULL and 0 where @problem is set. */
    char *id; /* of this point, a uuid */
    char *name, *uuid;
    gint64 when_ms; /* wall clock: what was written later is not in it */
    char *state;    /* of the machine then: "running", "paused", "shut off", ... */
    char *kho_version;
    char *qemu_version;  /* NULL: not known */
    GPtrArray *disks;    /* of KhoBackupDisk */
    GPtrArray *left_out; /* of KhoBackupLeftOut */
    guint64 xml_bytes;
    char *xml_sha256;
} KhoBackupPoint;

KHO_PUBLIC void kho_backup_point_free(KhoBackupPoint *point);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KhoBackupPoint, kho_backup_point_free)

/* The points of one machine, or with @machine NULL of all, of KhoBackupPoint: by machine, then by time, those
 * that cannot be used last. Reads manifests only. KHO_ERROR_NOT_FOUND where the store has none of @machine.
 */
KHO_PUBLIC GPtrArray *kho_backup_list(const char *store, const char *machine, GError **error);

/* One file of a point that was read to be verified. */
typedef struct KhoBackupFile {
    char *file;
    char *expected, *got; /* SHA-256; @got is NULL where it could not be read */
    char *problem;        /* one line; NULL: it is as it was written */
} KhoBackupFile;

typedef struct KhoBackupVerdict {
    KhoBackupPoint *point;
    GPtrArray *files; /* of KhoBackupFile; empty where the point cannot be used at all */
    guint damaged;    /* how many files, or 1 for a point that cannot be used */
} KhoBackupVerdict;

/**
 * kho_backup_verify:
 * @machine: NULL: all of the store
 * @point: NULL: all of the machine
 *
 * Reads every file of the points and compares. Damage is told in the verdicts and is no error here.
 *
 * Returns: KhoBackupVerdict, owned by the array; NULL with KHO_ERROR_NOT_FOUND, _CANCELLED, ...
 */
KHO_PUBLIC GPtrArray *kho_backup_verify(const char *store, const char *machine, const char *point,
                                        const KhoJob *job, GError **error);

/* --- making and restoring ---------------------------------------------------------------------------------
 */

typedef enum { KHO_BACKUP_ZSTD, KHO_BACKUP_ZLIB, KHO_BACKUP_PLAIN } KhoBackupCompression;

typedef struct KhoBackupCreate {
    const char *store; /* a folder that exists */
    const char *point; /* NULL: the time, as 2026-11-21T07-00-00Z */
    KhoBackupCompression compression;
} KhoBackupCreate;

/**
 * kho_backup_create:
 *
 * Copies all disks of a machine at one point in time, with its definition: of one that runs the live one. A
 * running guest goes on meanwhile and is not paused for longer than taking the point; nothing is added to its
 * images. The point appears under its name when it is whole and durable; a failure, a cancel or a kill leaves
 * nothing.
 *
 * Returns: what was made; NULL with KHO_ERROR_NOT_FOUND (the store), _EXISTS (the point), _NO_SPACE (with the
 * figure, before anything is written where it can be known), _DENIED, _BUSY (another change of the machine,
 * or an image is in use), _UNSUPPORTED (a disk that is no file), _CANCELLED, ...
 */
KHO_PUBLIC KhoBackupPoint *
kho_backup_create(KhoDomain *domain, const KhoBackupCreate *options, const KhoJob *job, GError **error);

typedef struct KhoBackupRestore {
    const char *store, *machine;
    const char *point; /* NULL: the latest */
    const char *name;  /* NULL: the name it had. Another name makes a new machine, with a uuid and MACs of
                          its own */
    const char *pool;  /* where disks go; NULL: where they were, when that is free; otherwise kho's images */
} KhoBackupRestore;

/**
 * kho_backup_restore:
 * @point: (out) (optional): what was restored
 *
 * Puts the disks of a point in place and defines its machine. Every file is compared with the manifest while
 * it is read, and nothing appears under its name before all of them are right. A failure, a cancel or a kill
 * leaves nothing.
 *
 * Returns: the machine, shut off; NULL with KHO_ERROR_NOT_FOUND, _EXISTS (the name, the uuid, a file),
 * _CORRUPT (naming the file, with both hashes), _NO_SPACE (with the figure, before anything is written),
 * _UNSUPPORTED (a newer kho made it), _CANCELLED, ...
 */
KHO_PUBLIC KhoDomain *kho_backup_restore(KhoHost *host, const KhoBackupRestore *options, const KhoJob *job,
                                         KhoBackupPoint **point, GError **error);

#endif
