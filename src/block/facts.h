/* What a format tells of an image (its headers, its snapshots, what a check finds), and what it is told to
 * make of one. Plain structs; who answers and obeys is the contract's business (format.h). */
#ifndef KHO_BLOCK_FACTS_H
#define KHO_BLOCK_FACTS_H

#include <glib.h>

typedef struct {
    guint64 id; /* as the image has it, 0 when not a number */
    char *id_text, *name;
    guint64 vm_state_bytes, guest_bytes;
    gint64 date_s, date_ns; /* since 1970 */
    guint64 vm_clock_ns;
    gint64 icount; /* -1: not recorded */
} FormatSnapshot;

typedef struct {
    const char *name;
    guint32 date_s, date_ns;             /* since 1970 */
    gint64 icount;                       /* -1: not recorded */
    const char *id;                      /* NULL: the next number */
    guint64 vm_clock_ns, vm_state_bytes; /* bytes: 0, or of the state that was written for it */
} FormatSnapshotNew;

/* What an image is to become; what is 0 stays as it is. */
typedef struct {
    guint version;         /* qcow2: 2 or 3 */
    guint refcount_bits;   /* qcow2: 1 to 64, a power of two */
    gint lazy_refcounts;   /* qcow2: 1: on, -1: off */
    guint64 guest_bytes;   /* the size that resize will be called with afterwards */
    const char *data_file; /* the name of the data file, where the image has one; "": none is stated */
} FormatAmend;

typedef enum {
    FORMAT_SNAPSHOT_CREATE,
    FORMAT_SNAPSHOT_REVERT,
    FORMAT_SNAPSHOT_DELETE,
    FORMAT_AMEND,
    FORMAT_RESIZE,
} FormatChangeKind;

/* A change to an image of which is asked what it takes. */
typedef struct {
    FormatChangeKind kind;
    guint index;                       /* REVERT, DELETE: as in info's list */
    const FormatSnapshotNew *snapshot; /* CREATE */
    const FormatAmend *amend;          /* AMEND */
    guint64 guest_bytes;               /* RESIZE */
    guint64 free_bytes;                /* what the file system has */
    gboolean in_full; /* all of the answer, for which all tables are read; else least_bytes alone */
} FormatChange;

typedef struct {
    guint64 read_bytes, write_bytes; /* of tables, at most */
    guint64 most_bytes, least_bytes; /* of blocks that the file takes before it lets any go; what is least is
                                        looked at closely where it is more than free_bytes */
    guint64 freed_bytes;             /* of the file, afterwards */
    guint64 own_bytes;               /* DELETE: of data that the snapshot alone has; REVERT: the disk */
    gboolean own_is_least;           /* more, where compressed clusters lie apart */
    guint64 zero_clusters;           /* AMEND to version 2: that are marked as zeros */
} FormatCost;

/* What the headers say. Freed by format_info_clear (image/format.c). */
typedef struct {
    guint64 guest_bytes;
    guint32 cluster_bytes;    /* 0: the format has none */
    guint32 subcluster_bytes; /* where runs, places and zeros begin and end; most often cluster_bytes */
    char *backing_file;       /* as written in the header, or NULL */
    char *backing_format;     /* or NULL: not stated */
    guint version;            /* qcow2: 2 or 3 */
    guint refcount_bits;      /* qcow2 */
    const char *compression;  /* "zlib", "zstd", or NULL; static */
    gboolean lazy_refcounts, dirty, corrupt, extended_l2, encrypted;
    gboolean has_data_file;  /* the guest's bytes lie in another file, which set_data is to be given */
    gboolean data_file_raw;  /* which alone reads like the disk */
    char *data_file;         /* as written in the header, or NULL */
    struct LuksHeader *luks; /* owned; NULL where the image is not encrypted with LUKS */
    char *refusal;        /* why the format writes nothing into this image (KHO_ERROR_UNSUPPORTED), or NULL */
    GPtrArray *snapshots; /* of FormatSnapshot */
    GPtrArray *bitmaps;   /* of FormatBitmap, or NULL: none, or not to be read */
} FormatInfo;

typedef struct {
    guint64 corruptions;  /* contradictions that may cost data */
    guint64 leaks;        /* clusters with a reference too many: space only */
    guint64 check_errors; /* what could not be looked at */
    /* Of the corruptions: COPIED flags missing where the refcount is one. The crash rules pass through such
     * states; they cost a copy, never data. */
    guint64 copied_missing;
    guint64 corruptions_fixed, leaks_fixed;
    guint64 total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters;
    guint64 image_end_offset_bytes;
    GPtrArray *messages;      /* of char *: one line a finding, at most 1000; may be NULL */
    const struct KhoJob *job; /* in: cancels the look; what repair has begun it ends. NULL: nobody cancels */
} FormatCheck;

typedef enum { FORMAT_REPAIR_NONE, FORMAT_REPAIR_LEAKS, FORMAT_REPAIR_ALL } FormatRepair;

#endif
