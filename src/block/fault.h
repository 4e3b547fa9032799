/* A store that fails when it is told: for write-fault sweeps (tests/fault). For tests only; nothing of the
 * product uses it. */
#ifndef KHO_BLOCK_FAULT_H
#define KHO_BLOCK_FAULT_H

#include "block/blk.h"

/* A "write" is any change: pwrite, zero, truncate, share. Counts begin at 1. */
typedef enum {
    FAULT_NONE,
    FAULT_NTH_WRITE, /* the n-th write changes nothing and fails with KHO_ERROR_IO */
    FAULT_TORN,      /* the n-th write reaches the store in its first half only (whole sectors), and fails */
    FAULT_NTH_FLUSH, /* the n-th flush fails */
    FAULT_NO_SPACE,  /* what would make the store longer than n bytes fails with KHO_ERROR_NO_SPACE */
} FaultKind;

/* Passes everything else to @below, which stays the caller's and must outlive it. With @for_ever the writes
 * (or flushes) after the n-th fail as well: the device is gone; otherwise the fault passes. */
BlkStore *blk_fault_new(BlkStore *below, FaultKind kind, guint64 n, gboolean for_ever);

/* How many writes and flushes were asked of it, and how often it failed one. */
typedef struct {
    guint64 writes, flushes, faults;
} FaultCounts;

FaultCounts blk_fault_counts(BlkStore *fault);

#endif
