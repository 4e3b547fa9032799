/* Everything in an image that refers to clusters, read from the file alone: header, tables, snapshots,
 * bitmaps, LUKS header. Deliberately shares no code with the engine that writes images, but for header and
 * entry layouts, so that neither hides the other's mistakes. */
#ifndef KHO_QCOW2_REFERENCES_H
#define KHO_QCOW2_REFERENCES_H

#include "block/format.h"
#include "qcow2/extension.h"
#include "qcow2/header.h"
#include "qcow2/refmap.h"

#include <kho/job.h>

/* One run of check over one file. Who makes one sets file, result and job, and maybe
 * room_bytes and step. */
typedef struct {
    BlkStore *file;   /* borrowed, as are result and job */
    gsize room_bytes; /* for the map; 0: what bounds a check of any image */
    guint64 step; /* clusters that a window of it is a multiple of; 0: those that a refcount block counts */
    Qcow2Header header;
    Qcow2Geometry geo;
    Qcow2Extensions extensions;
    guint64 file_bytes;
    guint64 *reftable; /* geo.reftable_entries words as they are on disk, in the machine's byte order */
    Qcow2RefMap *map;
    gboolean passed;  /* all has been counted once, and what that found was noted */
    gboolean counted; /* the map has everything: it need not be counted again */
    FormatCheck *result;
    const KhoJob *job;
} Qcow2Check;

/* Counts every reference into check->map, from where its window begins, and the findings that need no
 * refcounts into check->result. FALSE only when cancelled or when memory or the file fail the check as a
 * whole. */
gboolean qcow2_references_count(Qcow2Check *check, GError **error);

/* Notes the refcount blocks in the map's window that something else refers to as well. */
void qcow2_references_judge_blocks(Qcow2Check *check);

/* Adds one to @counter and a line to the messages, of which the first 1000 are kept. */
void qcow2_check_note(Qcow2Check *check, guint64 *counter, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* KHO_ERROR_CANCELLED when the caller gave up. */
gboolean qcow2_check_going_on(const Qcow2Check *check, GError **error);

/* One past the last cluster that the file or a reference reaches. */
guint64 qcow2_check_end_cluster(const Qcow2Check *check);

#endif
