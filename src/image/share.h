/* The first pass of a copy: what the file system can share is shared, in the order in which it lies in the
 * source's files, so that neighbours there become neighbours in the target and one call shares many of them.
 * What is left, the workers of copy.c copy. */
#ifndef KHO_IMAGE_SHARE_H
#define KHO_IMAGE_SHARE_H

#include "image/copy.h"

typedef struct {
    guint64 start, end; /* from the start of the plan's range */
} SharedRange;

typedef struct {
    const CopyPlan *plan;
    gboolean cannot;  /* not between these files: no further try */
    gboolean works;   /* it has been done once */
    GArray *ranges;   /* of SharedRange, by their start: what the last look shared */
    guint64 from, to; /* what the last look went over */
    gboolean all;     /* that left nothing to be done there */
} Sharing;

void sharing_init(Sharing *sharing, const CopyPlan *plan);
void sharing_clear(Sharing *sharing);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Sharing, sharing_clear)

/* Goes over the plan's range from @from on, as far as its memory allows (sharing->to), and shares what it
 * can. A cancel ends it early; whoever called looks for that. */
gboolean sharing_go_on(Sharing *sharing, guint64 from, GError **error);

#endif
