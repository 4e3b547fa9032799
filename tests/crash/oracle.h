/* What a disk may hold after a crash: the history of what was asked of it, kept by the test, independent of
 * any image. Sectors that the last durable operation covers are exact; what came after may be there or not.
 */
#ifndef KHO_TESTS_ORACLE_H
#define KHO_TESTS_ORACLE_H

#include <glib.h>

typedef enum { OP_WRITE, OP_ZERO, OP_FLUSH, OP_RESIZE, OP_SNAPSHOT, OP_DELETE, OP_REVERT } OracleOpKind;

/* Events are indices into the recorded log: where it stood when the operation began and ended. */
typedef struct {
    OracleOpKind kind;
    guint begin, end;
    gboolean done;    /* it returned success: from @end on, what it promised holds */
    gboolean durable; /* its success makes all before it durable */
    guint64 first, n; /* sectors that it changes */
    guint64 *values;  /* of these sectors, owned */
    guint64 sectors;  /* the disk's size after it */
    guint snapshot;   /* SNAPSHOT, DELETE */
} OracleOp;

typedef struct {
    char *name;
    guint64 *values; /* the disk at that moment */
    guint64 sectors;
    gint made_by, deleted_by; /* operations; -1: was there before; -1: not deleted */
} OracleSnapshot;

typedef struct {
    guint64 *first_values; /* before the first operation; @capacity of them */
    guint64 first_sectors, capacity;
    GArray *ops;              /* of OracleOp */
    GArray *snapshots;        /* of OracleSnapshot */
    guint64 backing_bytes;    /* how long the backing file is, which guest_read knows; 0: there is none */
    const char *backing_file; /* that the header must name; NULL: not looked at */
    gboolean empty;           /* nothing but zeros, whatever the size: @capacity says nothing then */
    guint64 *now;             /* what the guest sees after the last successful operation */
    guint64 now_sectors;
} Oracle;

Oracle *oracle_new(guint64 sectors, guint64 capacity);
/* A new one that starts where @other started. */
Oracle *oracle_new_like(const Oracle *other);
void oracle_free(Oracle *oracle);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Oracle, oracle_free)

/* Sets a sector before the first operation. */
void oracle_preset(Oracle *oracle, guint64 sector, guint64 value);

/* Forgets all operations: what the guest sees now is durable, and stands before the first event. */
void oracle_rebase(Oracle *oracle);

/* Begins an operation that will give sectors [first, first + n) @values (copied); the disk's size stays. The
 * op is valid until the next begin. */
OracleOp *
oracle_begin(Oracle *oracle, OracleOpKind kind, guint event, guint64 first, guint64 n, const guint64 *values);
/* The last operation ended; its effects hold when it is @done, and may or may not be there otherwise. */
void oracle_end(Oracle *oracle, guint event, gboolean done);

/* What may be found after a crash at @event (everything in the log before it may have reached the disk). */
typedef struct {
    const Oracle *oracle;
    gint durable_op; /* the last one whose promise holds; -1: none */
    guint n_ops;     /* operations begun */
    guint64 *exact;  /* each sector after durable_op, failed operations left out */
    guint event;
} OracleView;

void oracle_view_at(const Oracle *oracle, guint event, OracleView *view);
void oracle_view_clear(OracleView *view);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(OracleView, oracle_view_clear)

gboolean oracle_allows_size(const OracleView *view, guint64 sectors);
gboolean oracle_allows(const OracleView *view, guint64 sector, guint64 value);
/* Must the snapshot be there, may it? */
void oracle_snapshot_fate(const OracleView *view, guint snapshot, gboolean *must, gboolean *may);

#endif
