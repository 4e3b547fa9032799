/* A store for a new file that much is written to: large writes are gathered, and go to the disk past the page
 * cache, several at a time, while whoever writes goes on. It leaves the cache to those who read, and takes
 * less time. Small writes, and the first of all, go to the store below. */
#ifndef KHO_BLOCK_DIRECT_H
#define KHO_BLOCK_DIRECT_H

#include "block/blk.h"

/* How much is written to the store below before it is worth it. */
#define DIRECT_AFTER_BYTES ((guint64) 64 << 20)

/**
 * blk_direct_new:
 * @below: a file; owned from here on
 * @after_bytes: DIRECT_AFTER_BYTES
 *
 * What was written is read back by this store; by others through the same file after a flush. A write that
 * fails behind its caller's back fails a later write, or the flush. Where the file cannot be written so, all
 * goes to @below.
 */
BlkStore *blk_direct_new(BlkStore *below, guint64 after_bytes);

/* Has any write gone past the page cache? */
gboolean blk_direct_is_used(BlkStore *store);

#endif
