/* A store that keeps a log of every change, with its bytes, in order: what crash replay (tests/crash)
 * replays. For tests only; nothing of the product uses it. */
#ifndef KHO_BLOCK_RECORD_H
#define KHO_BLOCK_RECORD_H

#include "block/blk.h"

typedef enum { BLK_EVENT_WRITE, BLK_EVENT_ZERO, BLK_EVENT_TRUNCATE, BLK_EVENT_FLUSH } BlkEventKind;

typedef struct {
    BlkEventKind kind;
    guint64 off;           /* TRUNCATE: the new size */
    guint64 len;           /* WRITE, ZERO */
    guint8 *bytes;         /* WRITE: @len bytes, owned; otherwise NULL */
    const BlkStore *below; /* which store changed, where several share a log */
} BlkEvent;

/* An empty log, of BlkEvent. */
GPtrArray *blk_record_log_new(void);

/* Passes everything to @below, which stays the caller's and must outlive it, and appends what succeeded to
 * @log, of which it takes a reference. Changes from several threads are logged in the order in which they
 * reached @below. */
BlkStore *blk_record_new(BlkStore *below, GPtrArray *log);

#endif
