/* A state as a store that can be read: over bytes that stay its owner's, so that a judge who opens a state
 * several times copies it never. What writes to one takes blk_mem_new. */
#ifndef KHO_TESTS_VIEW_H
#define KHO_TESTS_VIEW_H

#include "block/blk.h"

/* @bytes must outlive the store. */
BlkStore *view_new(const void *bytes, gsize len, const char *label);

#endif
