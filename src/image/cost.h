/* What a copy will cost, by the maps of its images, and a change, by their tables: for `--plan`, and for
 * refusing at the start what cannot fit. The figures of both are these. The copying itself is copy.c's
 * business. */
#ifndef KHO_IMAGE_COST_H
#define KHO_IMAGE_COST_H

#include "image/copy.h"

#include <kho/image_plan.h>

/* Where is written. */
typedef struct {
    const char *path;
    int fd;                   /* in that file system; -1: not known how much is free */
    KhoImage *image;          /* one that stands, where what has its place needs none; NULL: a new one */
    guint64 cluster_bytes;    /* what is allocated as one */
    guint64 table_span_bytes; /* of the disk, that one table of a cluster maps; 0: there are none */
    guint64 reserved_bytes;   /* what is taken in any case, before the copy: at most */
    guint64 least_bytes;      /* of that, at least */
    gboolean reserves_data;   /* the copy's data lies in that */
    gboolean writes_zeros;    /* zeros cannot be marked */
    gboolean is_fixed;        /* a byte of the disk has its place in the file, whatever is there now */
    gboolean encrypts;        /* nothing is shared */
    gboolean may_be_less;     /* than what is copied: known only when it is done */
    gboolean maps_only;       /* nobody reads the data to find zeros, and nothing is shared */
} CostPlace;

/* What a table of entries maps, of an image with such clusters (1: raw, nothing). */
guint64 cost_table_span(guint64 cluster_bytes, gboolean extended_l2);

/* An image that is open. */
gboolean cost_place_of(KhoImage *image, CostPlace *target, GError **error);

/**
 * cost_copies:
 * @copies: one behind the other; their `target` is not looked at
 * @plan: NULL where it is only to be refused, which has less to look at
 *
 * Looks at maps alone where there is space for all of it; else it also reads what may be zeros, to know. What
 * can be shared takes no space.
 *
 * Returns: FALSE with KHO_ERROR_NO_SPACE, and the plan filled, where it cannot fit; KHO_ERROR_CANCELLED, ...
 */
gboolean cost_copies(const CopyPlan *copies, guint n_copies, const CostPlace *target, KhoImagePlan *plan,
                     GError **error);

/* The same where nothing but target->reserved_bytes is taken. */
gboolean cost_reserved(const CostPlace *target, KhoImagePlan *plan, GError **error);

/* A copy more, by its maps; nothing is refused. */
gboolean cost_add(const CopyPlan *copy, const CostPlace *target, KhoImagePlan *plan, GError **error);

/* Of a change to the image's tables; of the whole plan @plan (NULL: it is only to be refused) what more it
 * costs and loses than it says already. *found (may be NULL) is what the format said. */
gboolean cost_change(KhoImage *image, const FormatChange *change, KhoImagePlan *plan, FormatCost *found,
                     GError **error);

/* @plan may be NULL. */
void cost_lost(KhoImagePlan *plan, const char *format, ...) G_GNUC_PRINTF(2, 3);

#endif
