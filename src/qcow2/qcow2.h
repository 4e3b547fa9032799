/* The qcow2 format as the floors above see it: its table of functions, making images, and the snapshots
 * inside them. The engine's insides live in image.h and the headers of its parts. */
#ifndef KHO_QCOW2_QCOW2_H
#define KHO_QCOW2_QCOW2_H

#include "block/format.h"
#include "luks/change.h"
#include "qcow2/header.h"

extern const FormatOps qcow2_format;

typedef struct {
    guint64 guest_bytes;
    guint32 cluster_bytes;                     /* a power of two, 512 to 2 MiB; 0: 64 KiB */
    guint version;                             /* 2 or 3; 0: 3 */
    guint refcount_bits;                       /* a power of two, 1 to 64; version 2: 16 only; 0: 16 */
    const char *backing_file, *backing_format; /* at most 1023 bytes; NULL: none */
    const char *data_file;                     /* the same: where the guest's bytes go; version 3 only */
    gboolean data_file_raw; /* it reads like the disk; the caller maps all of it; without backing file only */
    gboolean lazy_refcounts;      /* version 3 only */
    gboolean extended_l2;         /* version 3 and clusters of at least 16 KiB only */
    Qcow2Compression compression; /* zstd: version 3 only */
    const LuksFormat *luks;       /* encrypted so; NULL: not */
    gboolean unpublished;         /* leave every barrier to the one before the file is renamed */
} Qcow2CreateOptions;

/**
 * qcow2_create:
 * @empty: a writable store without contents (a block device's old contents are not looked at)
 *
 * Makes an image; the layout is qemu-img's. The header is written last, after a barrier, so that what a crash
 * leaves is no qcow2 image at all or the whole one. Durable when it returns TRUE, unless @unpublished.
 *
 * Returns: FALSE with KHO_ERROR_INVALID (options out of range or at odds; nothing was written) or a failed
 * write's.
 */
gboolean qcow2_create(BlkStore *empty, const Qcow2CreateOptions *options, GError **error);
/* The same; *key is set to the key of an encrypted image, so that it can be had without its passphrase. */
gboolean qcow2_create_keyed(BlkStore *empty, const Qcow2CreateOptions *options, LuksKey *key, GError **error);

/* FormatOps.unlock for an image with LUKS whose key is known. */
gboolean qcow2_unlock_with(FormatImage *image, const LuksKey *key, GError **error);

/* Adds or removes key slots of a writable image with LUKS; its key is not needed. KHO_ERROR_UNSUPPORTED
 * without a LUKS header. Rules: SLOT_BEFORE_ACTIVE, INACTIVE_BEFORE_WIPE. */
gboolean qcow2_change_keys(FormatImage *image, const LuksChange *change, GError **error);

/* A read-only image that shows the @index-th internal snapshot's disk: info, map and inflate work on it. It
 * borrows
 * @image's file: close it first, and change nothing in @image meanwhile. */
FormatImage *qcow2_snapshot_open_view(FormatImage *image, guint index, GError **error);

/* The same, and behind the disk the snapshot's VM state, from *@state_off on (which the tables' geometry
 * says), in whole sectors; the disk ends with it. KHO_ERROR_CORRUPT where the snapshot's table does not reach
 * so far. */
FormatImage *qcow2_snapshot_open_state(FormatImage *image, guint index, guint64 *state_off, GError **error);

/* state.c: between both, the disk of an unpublished image is VM state of @bytes that is being written (from 0
 * on, nothing in it yet): the next snapshot made has it. The disk is what it was again after the end. */
gboolean qcow2_state_begin(FormatImage *image, guint64 bytes, GError **error);
gboolean qcow2_state_end(FormatImage *image, GError **error);

/* state.c: makes whole clusters (the last one of the disk counts as whole) of an unpublished image's disk
 * those of one of its snapshots, which @view shows: each gets another user, and nothing is copied.
 * KHO_ERROR_NO_SPACE where a count is as high as its width allows. */
gboolean
qcow2_snapshot_share(FormatImage *image, FormatImage *view, GuestOff at, guint64 bytes, GError **error);

/* FormatOps.snapshot_create, .snapshot_delete and .snapshot_revert */
gboolean qcow2_snapshot_create(FormatImage *image, const FormatSnapshotNew *snapshot, GError **error);
gboolean qcow2_snapshot_delete(FormatImage *image, guint index, GError **error);
gboolean qcow2_snapshot_revert(FormatImage *image, guint index, GError **error);

#endif
