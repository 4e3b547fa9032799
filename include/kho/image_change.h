/* What is done to images that stand: commit, rebase, the snapshots inside them, amend; and measuring how fast
 * they are read and written. Opening, making and copying them lives in kho/image.h. */
#ifndef KHO_IMAGE_CHANGE_H
#define KHO_IMAGE_CHANGE_H

#include <kho/image.h>

typedef struct KhoImageCommit {
    const char *base;      /* an image of the overlay's chain; NULL: its backing file */
    gboolean keep_overlay; /* its contents; else it is emptied, and must lie on the base directly */
    guint64 rate_bytes;    /* at most so many a second; 0: no limit */
    guint workers;         /* 0: as many as processors, at most 8 */
    KhoImagePlan *plan;    /* not NULL: nothing is changed, and this is told */
    /* Asked of each file that will be written, or read differently afterwards, before anything is: FALSE ends
     * the call. May be NULL. */
    gboolean (*admit)(const char *path, gpointer data, GError **error);
    gpointer admit_data;
} KhoImageCommit;

/* Of @overlay's flags none counts; its job tells how far this is, and cancels it.
 *
 * Writes what the overlay and the layers between hold into the base, growing that first where it is shorter,
 * and empties the overlay once that is durable. What is read through the overlay changes at no moment, also
 * across a crash; a call that ended early may be made again. What is read through the layers between, and
 * through other overlays of the base, is spoilt from the first write on. Internal snapshots stay.
 *
 * Returns: FALSE with KHO_ERROR_INVALID (no backing file), _NOT_FOUND (@base is not in the chain), _BUSY,
 * _NO_SPACE (before anything is written where it cannot fit), _CANCELLED, ... */
KHO_PUBLIC gboolean kho_image_commit(const KhoImageSource *overlay, const KhoImageCommit *commit,
                                     GError **error);

typedef struct KhoImageRebase {
    const char *backing_file, *backing_format; /* as they shall stand in the header, the file relative to the
                                                  image's folder; both NULL: none */
    guint workers;
    KhoImagePlan *plan; /* as of KhoImageCommit */
} KhoImageRebase;

/* Of @source's flags none counts; its job is as of kho_image_commit. The new backing file is opened by the
 * same gate and whichever of the secrets does.
 *
 * Lets the image lie on another backing file, or on none, and copies into it what it would read differently
 * there. What it reads as changes at no moment, also across a crash; a failure or a cancel leaves it longer
 * at most. Durable when it returns TRUE. (kho_image_set_backing changes the name alone.)
 *
 * Returns: FALSE with KHO_ERROR_INVALID (its format has no backing files; it would lie on itself; the name
 * does not fit), _NOT_FOUND (a file of the old chain or of the new one), _BUSY, _NO_SPACE, _CANCELLED, ... */
KHO_PUBLIC gboolean kho_image_rebase(const KhoImageSource *source, const KhoImageRebase *rebase,
                                     GError **error);

/* Bytes in the name of a snapshot inside an image: QEMU reads no more. */
#define KHO_IMAGE_SNAPSHOT_NAME_MAX 255

/* Which snapshot is meant by a text. */
typedef enum {
    KHO_SNAPSHOT_ONE, /* the one of that name, or else of that id; KHO_ERROR_INVALID where several are */
    KHO_SNAPSHOT_FIRST_NAME, /* the first of that name */
    KHO_SNAPSHOT_ID_OR_NAME, /* the one of that id, or else the first of that name */
} KhoSnapshotChoice;

typedef struct KhoImageSnapshotNew {
    const char *name;
    gint64 icount;       /* the guest's instruction count; -1: not recorded */
    gboolean may_repeat; /* another snapshot may have that name; else KHO_ERROR_EXISTS */
    KhoImagePlan *plan;  /* as of KhoImageCommit */
} KhoImageSnapshotNew;

typedef struct KhoImageSnapshotPick {
    const char *name; /* or id */
    KhoSnapshotChoice choice;
    KhoImagePlan *plan; /* as of KhoImageCommit */
} KhoImageSnapshotPick;

/* Snapshots inside the image at @path (@format NULL: probe), which nobody else may use meanwhile: of its disk
 * alone, not of a machine. Others are kept as they are, with their ids, VM states and extra data. A crash
 * leaves the old image or the new one; durable when they return TRUE. KHO_ERROR_UNSUPPORTED where the format
 * has none, _BUSY, _NOT_FOUND (the snapshot), _NO_SPACE. */
KHO_PUBLIC gboolean kho_image_snapshot_create(const char *path, const char *format,
                                              const KhoImageSnapshotNew *snapshot, GError **error);
/* The disk becomes what it was in the snapshot, its size too; the snapshot stays. */
KHO_PUBLIC gboolean kho_image_snapshot_apply(const char *path, const char *format,
                                             const KhoImageSnapshotPick *pick, GError **error);
KHO_PUBLIC gboolean kho_image_snapshot_delete(const char *path, const char *format,
                                              const KhoImageSnapshotPick *pick, GError **error);

/* What is 0 or NULL stays as it is. */
typedef struct KhoImageAmend {
    const char *path, *format; /* NULL: probe */
    guint qcow2_version;       /* 2 or 3 */
    guint refcount_bits;       /* 1 to 64, a power of two */
    gint lazy_refcounts;       /* 1: on, -1: off */
    guint64 size_bytes;        /* whole sectors */
    gboolean may_shrink;
    const char *backing_file, *backing_format; /* must be what the header says: see kho_image_rebase */
    const char *data_file;     /* the name that the header has for it, where there is one: it is
                                  neither moved nor looked for */
    const KhoSecrets *secrets; /* a new size of an encrypted image may need its passphrase */
    gboolean only_check;       /* nothing is written: could it be done? */
    KhoImagePlan *plan;        /* as of KhoImageCommit */
} KhoImageAmend;

/* Changes how an image is laid out; what is read stays, but for its size. What cannot be done is refused
 * before anything is written. A crash leaves the image as it was or as it was to be; where the size changes
 * too, that comes last and by itself. KHO_ERROR_INVALID, _UNSUPPORTED, _CORRUPT, _BUSY, _NO_SPACE. */
KHO_PUBLIC gboolean kho_image_amend(const KhoImageAmend *amend, const KhoImageGate *gate, const KhoJob *job,
                                    GError **error);

/* The most requests that a bench has under way at a time. */
#define KHO_BENCH_DEPTH_MAX 1024

typedef struct KhoImageBench {
    gboolean write; /* the guest's data is overwritten */
    guint8 pattern; /* what is written */
    guint64 requests, request_bytes, step_bytes /* from one to the next; 0: request_bytes */;
    guint64 start_bytes;
    guint depth;          /* requests under way at a time; 1 to KHO_BENCH_DEPTH_MAX */
    guint64 flush_every;  /* requests, not less than depth; 0: no flush */
    gboolean keep_flying; /* other requests go on while a flush is made */
} KhoImageBench;

/* Reads or writes the image as told and measures how long that takes, without opening it: *seconds. What
 * passes the end of the disk goes on at its start. Of @source's flags KHO_IMAGE_NO_LOCK counts, for reading
 * only; its job cancels this. KHO_ERROR_INVALID where a request does not fit. */
KHO_PUBLIC gboolean kho_image_bench(const KhoImageSource *source, const KhoImageBench *bench, double *seconds,
                                    GError **error);

#endif
