/* Internal snapshots: the table that lists them, and views of the disks they hold. Making, deleting and
 * reverting lives in snapshot_change.c, what programs call in qcow2.h. Spec: docs/spec/qcow2.md, section 9.
 */
#ifndef KHO_QCOW2_SNAPSHOT_H
#define KHO_QCOW2_SNAPSHOT_H

#include "qcow2/header.h"

#define QCOW2_SNAPSHOT_HEAD_BYTES 40

typedef struct {
    guint64 l1_off;
    guint32 l1_entries;
    char *id, *name;
    guint32 date_s, date_ns;
    guint64 vm_clock_ns;
    guint64 vm_state_bytes;
    guint64 guest_bytes; /* the image's own size where the entry does not say */
    gint64 icount;       /* -1: not recorded */
    GBytes *extra;       /* as on disk, unknown parts included */
} Qcow2Snapshot;

void qcow2_snapshot_free(Qcow2Snapshot *snapshot);

/**
 * qcow2_snapshots_read:
 * @header: decoded
 * @table_bytes: (out) (nullable): length of the table
 *
 * Reads the snapshot table; every entry's L1 table is checked to be aligned, of a permitted length and within
 * the file. Returns: an array of Qcow2Snapshot, or NULL with KHO_ERROR_CORRUPT naming the entry and its
 * fault.
 */
GPtrArray *
qcow2_snapshots_read(BlkStore *file, const Qcow2Header *header, guint64 *table_bytes, GError **error);

/* Appends one table entry, padded to 8 bytes. */
void qcow2_snapshot_encode(const Qcow2Snapshot *snapshot, GByteArray *to);

#endif
