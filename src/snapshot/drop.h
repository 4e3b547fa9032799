/* Removing image files: only where nobody needs them. Looked at anew each time, since others may have come to
 * need them. Runs where there is no way back: what cannot be removed, or judged, stays and is told of. */
#ifndef KHO_SNAPSHOT_DROP_H
#define KHO_SNAPSHOT_DROP_H

#include "store/tree.h"

/* Who drops. */
typedef struct Drop {
    const StoreTree *tree;
    const char *machine;  /* which the files were made for */
    const char *snapshot; /* NULL, or that one of it which is being deleted: what it closed does not count */
    gboolean force;       /* images that cannot be looked at need nothing */
    char **left;          /* what stays though the machine does not need it, and why, is added */
} Drop;

/* Removes @path, durably, and takes it out of the list of what kho made; unless a disk, a snapshot or an
 * image needs it, or one that cannot be looked at now might: it stays then. */
void drop_unless_needed(const Drop *drop, const char *path);

/* Takes those that are gone, and that nobody names, out of the list of overlays that kho made. */
void drop_forget_gone(const Drop *drop);

/* Adds why something stays to *left, a text for people (NULL: nothing stays yet), freed with g_free. */
void drop_leave(char **left, const GError *why);

#endif
