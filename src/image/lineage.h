/* What the states of one disk have in common (its snapshots, and the disk as it is), so that a copy of all of
 * them has it in common too. Neighbours are compared by the copy engine (COPY_CHANGED); here lives what a
 * state has from an earlier one than the last: the disk went back to it in between. Copying is
 * snapshot_copy.c's. */
#ifndef KHO_IMAGE_LINEAGE_H
#define KHO_IMAGE_LINEAGE_H

#include "image/image.h"

/* Of one copy; bounded in memory whatever the disk's size. */
typedef struct Lineage Lineage;

/* @source is open for reading, @target a new image that gets the source's snapshots in their order. */
Lineage *lineage_new(KhoImage *source, KhoImage *target);
void lineage_free(Lineage *lineage);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Lineage, lineage_free)

/* How much of a disk is looked at as one, in bytes: whole clusters of the target. */
guint64 lineage_window_bytes(const Lineage *lineage);

/* A piece of the state that the source shows: within a window, from the beginning of a cluster of the target
 * on. */
typedef struct {
    guint state;         /* how many snapshots the target has */
    FormatImage *before; /* what the source showed last, as the target's last snapshot and its disk are; NULL:
                            nothing */
    guint64 from, to;
} LineagePiece;

/* The piece was copied, and may be found by later states. Where it is as in @before, it was noted then. */
gboolean lineage_note(Lineage *lineage, const LineagePiece *piece, GError **error);

/**
 * lineage_link:
 * @done: (out): a bit for each of the target's clusters of the piece, until the next call; NULL: none
 *
 * Where the piece differs from @before and is as in an earlier snapshot, the target's
 * disk gets the clusters that its own snapshot has there. KHO_ERROR_CANCELLED, and as qcow2_snapshot_share.
 */
gboolean lineage_link(Lineage *lineage, const LineagePiece *piece, const KhoJob *job, const guint8 **done,
                      GError **error);

#endif
