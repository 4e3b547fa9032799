/* QEMU's locks on image files: open-file-description locks on single bytes, one pair of bytes for each kind
 * of use, so that QEMU, its tools and kho never write over each other. The lock lives as long as the
 * descriptor behind the store. Locks on objects of the host's tree live in store/. */
#ifndef KHO_IMAGE_LOCK_H
#define KHO_IMAGE_LOCK_H

#include "block/blk.h"

typedef enum {
    IMAGE_LOCK_READ,  /* reads consistently: nobody else may write or resize */
    IMAGE_LOCK_WRITE, /* writes and resizes alone; others may not even read consistently */
} ImageLockUse;

/**
 * image_lock:
 * @file: a store over a file; one without a descriptor needs no lock
 *
 * Never waits. Takes the bytes first and looks for conflicts then, as QEMU does, so that of two that come at
 * the same time at least one is refused.
 *
 * Returns: FALSE with KHO_ERROR_BUSY naming machine, pid and command of the holder where they can be known;
 * no lock is held then.
 */
gboolean image_lock(BlkStore *file, ImageLockUse use, GError **error);

#endif
