#include "crash/oracle.h"

#include "crash/guest.h"

#include <string.h>

static void
op_clear(gpointer data)
{
    g_free(((OracleOp *) data)->values);
}

static void
snapshot_clear(gpointer data)
{
    OracleSnapshot *snapshot = data;

    g_free(snapshot->name);
    g_free(snapshot->values);
}

Oracle *
oracle_new(guint64 sectors, guint64 capacity)
{
    Oracle *oracle = g_new0(Oracle, 1);

    oracle->first_values = g_new0(guint64, capacity);
    oracle->now = g_new0(guint64, capacity);
    oracle->first_sectors = oracle->now_sectors = sectors;
    oracle->capacity = capacity;
    oracle->ops = g_array_new(FALSE, TRUE, sizeof(OracleOp));
    g_array_set_clear_func(oracle->ops, op_clear);
    oracle->snapshots = g_array_new(FALSE, TRUE, sizeof(OracleSnapshot));
    g_array_set_clear_func(oracle->snapshots, snapshot_clear);
    return oracle;
}

Oracle *
oracle_new_like(const Oracle *other)
{
    Oracle *oracle = oracle_new(other->first_sectors, other->capacity);

    oracle->backing_bytes = other->backing_bytes;
    memcpy(oracle->first_values, other->first_values, other->capacity * sizeof *other->first_values);
    memcpy(oracle->now, other->first_values, other->capacity * sizeof *other->first_values);
    return oracle;
}

void
oracle_free(Oracle *oracle)
{
    g_array_unref(oracle->ops);
    g_array_unref(oracle->snapshots);
    g_free(oracle->first_values);
    g_free(oracle->now);
    g_free(oracle);
}

void
oracle_preset(Oracle *oracle, guint64 sector, guint64 value)
{
    oracle->first_values[sector] = oracle->now[sector] = value;
}

void
oracle_rebase(Oracle *oracle)
{
    g_array_set_size(oracle->ops, 0);
    memcpy(oracle->first_values, oracle->now, oracle->capacity * sizeof *oracle->now);
    oracle->first_sectors = oracle->now_sectors;
}

OracleOp *
oracle_begin(Oracle *oracle, OracleOpKind kind, guint event, guint64 first, guint64 n, const guint64 *values)
{
    OracleOp op = { .kind = kind, .begin = event, .end = G_MAXUINT, .first = first, .n = n };

    g_assert(first + n <= oracle->capacity);
    op.values = n > 0 ? g_memdup2(values, n * sizeof *values) : NULL;
    op.sectors = oracle->now_sectors;
    op.durable = kind != OP_WRITE && kind != OP_ZERO;
    g_array_append_val(oracle->ops, op);
    return &g_array_index(oracle->ops, OracleOp, oracle->ops->len - 1);
}

void
oracle_end(Oracle *oracle, guint event, gboolean done)
{
    OracleOp *op = &g_array_index(oracle->ops, OracleOp, oracle->ops->len - 1);

    op->end = event;
    op->done = done;
    if (!done)
        return;
    if (op->n > 0)
        memcpy(oracle->now + op->first, op->values, op->n * sizeof *op->values);
    oracle->now_sectors = op->sectors;
}

static const OracleOp *
op_at(const Oracle *oracle, guint i)
{
    return &g_array_index(oracle->ops, OracleOp, i);
}

static gboolean
kept_promise(const OracleOp *op, guint event)
{
    return op->done && op->end <= event;
}

void
oracle_view_at(const Oracle *oracle, guint event, OracleView *view)
{
    *view = (OracleView){ .oracle = oracle, .durable_op = -1, .event = event };
    view->exact = g_memdup2(oracle->first_values, oracle->capacity * sizeof *oracle->first_values);
    for (guint i = 0; i < oracle->ops->len && op_at(oracle, i)->begin <= event; i++) {
        view->n_ops = i + 1;
        if (kept_promise(op_at(oracle, i), event) && op_at(oracle, i)->durable)
            view->durable_op = (gint) i;
    }
    for (gint i = 0; i <= view->durable_op; i++) {
        const OracleOp *op = op_at(oracle, (guint) i);
        if (op->done && op->n > 0)
            memcpy(view->exact + op->first, op->values, op->n * sizeof *op->values);
    }
}

void
oracle_view_clear(OracleView *view)
{
    g_free(view->exact);
}

gboolean
oracle_allows_size(const OracleView *view, guint64 sectors)
{
    guint64 exact = view->oracle->first_sectors;

    for (guint i = 0; i < view->n_ops; i++) {
        const OracleOp *op = op_at(view->oracle, i);
        if ((gint) i <= view->durable_op && op->done)
            exact = op->sectors;
        else if (op->sectors == sectors)
            return TRUE; /* failed, or not promised yet */
    }
    return exact == sectors;
}

/* The zeros that a disk has where it was cut: nobody sees them before it grows again. */
static gboolean
only_cuts(const OracleOp *op)
{
    return op->kind == OP_RESIZE && op->first == op->sectors;
}

gboolean
oracle_allows(const OracleView *view, guint64 sector, guint64 value)
{
    if (view->oracle->empty)
        return value == 0;
    if (value == view->exact[sector])
        return TRUE;
    /* Backwards: what a promised operation overwrote cannot come back, what failed or came later may be
     * there. */
    gboolean resized_later = FALSE;
    for (guint i = view->n_ops; i-- > 0;) {
        const OracleOp *op = op_at(view->oracle, i);
        gboolean unseen = only_cuts(op) && !resized_later;
        resized_later = resized_later || op->kind == OP_RESIZE || op->kind == OP_REVERT;
        if (sector < op->first || sector >= op->first + op->n)
            continue;
        if (op->values[sector - op->first] == value && !unseen)
            return TRUE;
        if ((gint) i <= view->durable_op && op->done)
            return FALSE;
    }
    return FALSE;
}

void
oracle_snapshot_fate(const OracleView *view, guint index, gboolean *must, gboolean *may)
{
    const OracleSnapshot *snapshot = &g_array_index(view->oracle->snapshots, OracleSnapshot, index);
    gboolean begun = snapshot->made_by < (gint) view->n_ops, made = begun;
    gboolean deleting = snapshot->deleted_by >= 0 && snapshot->deleted_by < (gint) view->n_ops;

    if (begun && snapshot->made_by >= 0)
        made = kept_promise(op_at(view->oracle, (guint) snapshot->made_by), view->event);
    *must = made && !deleting;
    *may =
        begun && !(deleting && kept_promise(op_at(view->oracle, (guint) snapshot->deleted_by), view->event));
}
