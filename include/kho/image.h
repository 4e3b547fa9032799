/* Disk images: open with their backing chains, read, write, map, create, convert, resize, check.
 * Here lives what a program does with one image; pools and volumes live in kho/host.h. */
#ifndef KHO_IMAGE_H
#define KHO_IMAGE_H

#include <kho/crypt.h>
#include <kho/error.h>
#include <kho/job.h>
#include <kho/secret.h>

typedef struct KhoImage KhoImage;
typedef struct KhoImagePlan KhoImagePlan; /* kho/image_plan.h */

/* Bytes in the name of a file that is made: while it is written it has a longer one. */
#define KHO_IMAGE_NAME_MAX 246

/* Decides whether a path found inside an image (its backing file, its data file) may
 * be opened: FALSE with KHO_ERROR_DENIED refuses. @path is absolute, resolved against the folder of
 * @referrer. Of an image of a foreign format, which may name extents, it is called in another thread, while
 * the caller of kho_image_open waits. */
typedef struct KhoImageGate {
    gboolean (*admit)(const char *path, const char *referrer, gpointer data, GError **error);
    gpointer data;
} KhoImageGate;

/* The gate for images that the person at the keyboard named and vouches for. A NULL gate refuses every path.
 */
KHO_PUBLIC extern const KhoImageGate kho_image_gate_open;

typedef enum {
    KHO_IMAGE_READ = 0,
    KHO_IMAGE_WRITE = 1 << 0,
    KHO_IMAGE_NO_BACKING = 1 << 1, /* this file alone; holes read as zeros */
    KHO_IMAGE_NO_LOCK = 1 << 2,    /* read although another process writes: what is read may be torn */
    /* Only headers will be read: any holder is fine (info of a running machine). */
    KHO_IMAGE_IDLE_LOCK = 1 << 3,
    /* For a machine: files and devices alone in the whole chain, KHO_ERROR_UNSUPPORTED where not so. */
    KHO_IMAGE_LOCAL = 1 << 4,
    KHO_IMAGE_NO_DATA = 1 << 5, /* nothing of the guest's will be read: a data file is not opened */
    KHO_IMAGE_VOLUMES = 1 << 6, /* with LOCAL: LUKS volumes are there too; else such a file is the raw disk of
                                   a guest that encrypts it by itself */
} KhoImageFlags;

typedef enum { KHO_MAP_HOLE, KHO_MAP_ZERO, KHO_MAP_DATA, KHO_MAP_COMPRESSED } KhoMapKind;

/* A stretch of the virtual disk of one kind, in one file of the chain. */
typedef struct KhoMapEntry {
    guint64 start_bytes, length_bytes;
    guint64 host_offset_bytes; /* valid when has_offset */
    guint depth;               /* 0: the image itself, 1: its backing file, ... */
    KhoMapKind kind;           /* HOLE: in no file of the chain */
    gboolean has_offset;
    gboolean reads_zero; /* HOLE and ZERO; also DATA where the file itself has a hole (preallocated tables) */
    const char *path;    /* the file at that depth; valid while the image is open */
} KhoMapEntry;

/* What is said of a backing file, as of KhoImageSource; NULL: what the header above it says counts. */
typedef struct KhoImageBelow {
    const char *path, *format, *key_secret;
} KhoImageBelow;
/* An image to be opened. */
typedef struct KhoImageSource {
    const char *path;   /* a file, a block device, or the disk of an NBD server: "nbd://host:port/export",
                           "nbd+unix:///export?socket=PATH" */
    const char *format; /* "raw", "qcow2", "luks", or one that QEMU reads for kho ("vmdk", "vdi", "vhdx",
                           "vpc", "qed", "parallels", "qcow", "bochs", "cloop", "dmg"); NULL: probe */
    KhoImageFlags flags;
    const KhoImageGate *gate; /* NULL refuses what the image names */
    const KhoJob *job; /* cancels whatever waits for a server as long as the image is open; may be NULL */
    /* Passphrases for the encrypted images of the chain; NULL: none, and what is encrypted cannot be read. */
    const KhoSecrets *secrets;
    const char *key_secret;     /* which of them opens this image; NULL: whichever does */
    const KhoImageBelow *below; /* its backing files, the next one first; of further ones nothing is said */
    guint n_below;
} KhoImageSource;
/* Is it a server's disk? */
KHO_PUBLIC gboolean kho_image_is_remote(const char *path);

/* As kho_image_open. A server that does not answer is given up after a minute: KHO_ERROR_TIMEOUT; one that
 * ends: KHO_ERROR_IO. Either way nothing more is read or written through that image. KHO_ERROR_DENIED where
 * no secret opens an encrypted image. */
KHO_PUBLIC KhoImage *kho_image_open_source(const KhoImageSource *source, GError **error);

/**
 * kho_image_open:
 * @path: as of KhoImageSource
 * @format: as of KhoImageSource, or NULL to probe; guest-writable files are opened with their format stated
 * @gate: admits the backing files and data files; NULL refuses them
 *
 * Opens the image and its whole chain, taking QEMU's byte-range locks on each file (exclusive intent on the
 * image itself with KHO_IMAGE_WRITE, shared on backing files). Reads headers only.
 *
 * Returns: NULL with KHO_ERROR_NOT_FOUND, _BUSY (names machine, pid and command of the holder where they can
 * be known), _DENIED, _INVALID (another format; the chain loops), _CORRUPT, _UNSUPPORTED, _IO.
 */
KHO_PUBLIC KhoImage *kho_image_open(const char *path, const char *format, KhoImageFlags flags,
                                    const KhoImageGate *gate, GError **error);

/* Flushes when writable, releases the locks, frees in every case; FALSE when the flush failed. The other one,
 * which is for cleanup on failing paths, warns of that. */
KHO_PUBLIC gboolean kho_image_close(KhoImage *image, GError **error);
KHO_PUBLIC void kho_image_free(KhoImage *image);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KhoImage, kho_image_free)

/* From here on an image that is open for reading reads as its internal snapshot does: the first one whose id
 * is @id and whose name is @name, of which one may be NULL. KHO_ERROR_NOT_FOUND, or _UNSUPPORTED where the
 * format has no snapshots. */
KHO_PUBLIC gboolean kho_image_show_snapshot(KhoImage *image, const char *id, const char *name,
                                            GError **error);

KHO_PUBLIC guint64 kho_image_size_bytes(const KhoImage *image);
KHO_PUBLIC const char *kho_image_format(const KhoImage *image);
KHO_PUBLIC const char *kho_image_path(const KhoImage *image);
/* The file that holds its guest's bytes, where that is another one, or NULL. */
KHO_PUBLIC const char *kho_image_data_path(const KhoImage *image);
/* The next image of the chain, or NULL; owned by @image. */
KHO_PUBLIC KhoImage *kho_image_backing(const KhoImage *image);

/* [off, off + len) must lie within the virtual disk (KHO_ERROR_INVALID). A write is durable after flush only.
 * Safe from several threads at once, except that overlapping writes have no order. */
KHO_PUBLIC gboolean kho_image_read(KhoImage *image, guint64 off, void *buf, gsize len, GError **error);
KHO_PUBLIC gboolean kho_image_write(KhoImage *image, guint64 off, const void *buf, gsize len, GError **error);
KHO_PUBLIC gboolean kho_image_zero(KhoImage *image, guint64 off, guint64 len, GError **error);
KHO_PUBLIC gboolean kho_image_flush(KhoImage *image, GError **error);

/* What lies at @off in the whole chain; adjoining stretches of one kind, depth and place are joined. */
KHO_PUBLIC gboolean kho_image_map(KhoImage *image, guint64 off, guint64 max_bytes, KhoMapEntry *entry,
                                  GError **error);

typedef struct KhoImageSnapshot {
    char *id, *name;
    guint64 vm_state_bytes, size_bytes, vm_clock_ns;
    gint64 date_s, date_ns;
    gint64 icount; /* -1: not recorded */
} KhoImageSnapshot;

/* A persistent bitmap: which parts of the disk were written while it was enabled. */
typedef struct KhoImageBitmap {
    char *name;
    guint64 granularity_bytes; /* what a bit stands for */
    gboolean in_use;  /* inconsistent: a program that wrote has not ended as it should, or is still at it */
    gboolean is_auto; /* enabled */
} KhoImageBitmap;

typedef struct KhoImageInfo {
    char *path, *format;
    guint64 virtual_bytes, actual_bytes /* disk space in use */, file_bytes /* apparent size */;
    gboolean actual_unknown; /* a server's disk: actual_bytes is 0 */
    guint32 cluster_bytes;
    char *backing_file, *full_backing_path,
        *backing_format; /* NULL where there is none or it is not stated */
    guint qcow2_version, refcount_bits;
    const char *compression;
    gboolean lazy_refcounts, dirty, corrupt, encrypted, extended_l2;
    gboolean has_data_file, data_file_raw;
    char *data_file, *full_data_path;   /* as its header names it, and where that leads; NULL: not named */
    KhoImageEncryptionInfo *encryption; /* NULL: not encrypted */
    GPtrArray *snapshots;               /* of KhoImageSnapshot */
    GPtrArray *bitmaps;                 /* of KhoImageBitmap */
    char *specific; /* of a format that QEMU reads for kho: what it says of it, as JSON; or NULL */
} KhoImageInfo;

/* Reads the headers of one file; never its backing file. Works on an image in use. */
KHO_PUBLIC gboolean kho_image_info(const char *path, const char *format, KhoImageInfo *info, GError **error);
/* The same; of @source's flags KHO_IMAGE_LOCAL counts, which kho_image_info implies, and the gate is asked
 * for the extents of a foreign image alone. */
KHO_PUBLIC gboolean kho_image_info_source(const KhoImageSource *source, KhoImageInfo *info, GError **error);
/* The same of an image that is open. */
KHO_PUBLIC gboolean kho_image_describe(KhoImage *image, KhoImageInfo *info, GError **error);
KHO_PUBLIC void kho_image_info_clear(KhoImageInfo *info);

typedef enum {
    KHO_PREALLOC_OFF,
    KHO_PREALLOC_METADATA, /* qcow2: all tables made, data sparse */
    KHO_PREALLOC_FALLOC,   /* space reserved, not zeroed (thick-lazy) */
    KHO_PREALLOC_FULL,     /* zeros written (thick-eager) */
} KhoPrealloc;

typedef struct KhoImageCreate {
    const char *format; /* "raw", "qcow2", "luks", or one that QEMU writes for kho: "vmdk", "vdi", "vhdx",
                           "vpc", "qed", "parallels", "qcow" */
    const char *const
        *foreign_options; /* of the latter: "NAME=VALUE" as for qemu-img, NULL-terminated; or NULL */
    guint64 size_bytes;   /* 0 with a backing file: its size */
    gboolean exact_size;  /* 0 means an empty disk, also with a backing file */
    KhoPrealloc prealloc;
    guint64 prealloc_bytes;     /* FALLOC, FULL: only this much from the start; 0: all */
    const char *backing_file;   /* as it shall stand in the header; relative to the image's folder */
    const char *backing_format; /* required with backing_file */
    gboolean backing_unchecked; /* whatever the backing file is and holds: it is not opened */
    guint32 cluster_bytes;      /* 0: 65536 */
    guint qcow2_version;        /* 0: 3 */
    guint refcount_bits;        /* 0: 16 */
    gboolean lazy_refcounts;
    gboolean extended_l2;  /* qcow2 version 3, clusters of 16 KiB at least: mapped by their 32nd parts */
    const char *data_file; /* qcow2 version 3: made beside it, for the guest's bytes; named as backing_file */
    gboolean data_file_raw;    /* it reads like the disk, all of which is allocated */
    const char *compression;   /* NULL: zlib */
    guint32 extent_hint_bytes; /* the file's space comes in such pieces, where the file system can; 0: as it
                                  does */
    void (*no_extent_hint)(int error_number);            /* told where it cannot; may be NULL */
    void (*leaves_links)(const char *path, guint links); /* told where the file that is replaced has so many
                                                            other names, which keep it; may be NULL */
    mode_t mode;                                         /* 0: 0644 less the umask */
    gboolean overwrite;      /* replace what stands at the path; otherwise KHO_ERROR_EXISTS */
    gboolean overwrite_data; /* the data file's path, too. Two files are not replaced at once: a failure in
                                between leaves the old image with the new data */
    const KhoImageEncryption *encryption; /* luks, and qcow2 (NULL: none). Preallocated space is written then;
                                             what is not, is noise in a new LUKS volume */
    const KhoSecrets *secrets;            /* the one that @encryption names is among them */
    KhoImagePlan *plan;                   /* not NULL: nothing is made, and this is told */
} KhoImageCreate;

/* Makes an image beside its place and renames it in when it is whole and durable; a failure or a cancel
 * leaves nothing. A server's disk is written in place, where overwrite allows it, and bears a mark that no
 * program takes for a disk, and that kho refuses by name, until it is whole. KHO_ERROR_NO_SPACE where the
 * space reserved does not fit, before anything is written. */
KHO_PUBLIC gboolean kho_image_create(const char *path, const KhoImageCreate *options,
                                     const KhoImageGate *gate, const KhoJob *job, GError **error);

typedef struct KhoImageResize {
    guint64 size_bytes;   /* the new size: of a raw file exactly, else rounded up to whole sectors */
    gboolean may_shrink;  /* the data past the end may go; otherwise KHO_ERROR_INVALID for a smaller size */
    KhoPrealloc prealloc; /* of what is added */
    const KhoSecrets *secrets;
    KhoImagePlan *plan; /* not NULL: nothing is changed, and this is told */
} KhoImageResize;

/* @format: NULL to probe. What is added reads as zeros, of a LUKS volume as noise unless it is preallocated.
 * After a failure the image has its old size, or the message says that it has not. */
KHO_PUBLIC gboolean kho_image_resize(const char *path, const char *format, const KhoImageResize *options,
                                     const KhoImageGate *gate, const KhoJob *job, GError **error);

typedef struct KhoImageCheck {
    guint64 corruptions, leaks, check_errors, corruptions_fixed, leaks_fixed;
    guint64 total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters,
        image_end_offset_bytes;
    GPtrArray *messages; /* of char *: one line a finding */
    const char *format;  /* of the image; static */
} KhoImageCheck;

typedef enum { KHO_REPAIR_NONE, KHO_REPAIR_LEAKS, KHO_REPAIR_ALL } KhoRepair;

/* TRUE when the check ran, whatever it found; raw images have nothing to check (KHO_ERROR_UNSUPPORTED). An
 * image of a foreign format is looked at alone, and not repaired: KHO_ERROR_DENIED where it needs files that
 * it names. */
KHO_PUBLIC gboolean kho_image_check(const char *path, const char *format, KhoRepair repair,
                                    KhoImageFlags flags, KhoImageCheck *result, const KhoJob *job,
                                    GError **error);
KHO_PUBLIC void kho_image_check_clear(KhoImageCheck *result);

#endif
