/* Ranges of one image that are being read or written: copy-on-write fills a whole cluster, so two writers of
 * one cluster must take turns, and a reader must not follow a mapping that a writer lets go. In-process only;
 * locks between processes live in lock.c. */
#ifndef KHO_IMAGE_RANGE_H
#define KHO_IMAGE_RANGE_H

#include <glib.h>

/* On the stack of whoever holds it, so that holding costs no allocation. */
typedef struct RangeHold {
    guint64 start, end;
    gboolean shared;
    struct RangeHold *next;
} RangeHold;

typedef struct {
    GMutex mutex;
    GCond freed;
    RangeHold *held; /* under mutex */
} RangeLock;

void range_lock_init(RangeLock *lock);
void range_lock_clear(RangeLock *lock);

/* Waits until nobody holds a part of [start, end) in a way that conflicts, then holds it. */
void range_lock_take(RangeLock *lock, RangeHold *hold, guint64 start, guint64 end, gboolean shared);
void range_lock_drop(RangeLock *lock, RangeHold *hold);

#endif
