/* The sweep over commits, which write two files: first the base, under an overlay that covers it, then the
 * overlay, which lets go of what the base holds durably. So there are no other states of both than these:
 * some of the base's with the overlay as it was, and some of the overlay's with a base that is done; and
 * those of the base's that are left when the overlay changes for the first time, with an overlay that is
 * empty. */
#include "block/record.h"
#include "crash/layers.h"
#include "crash/sweeps.h"

/* Over the overlay's store: notes how long the base's log is when the overlay changes for the first time. */
typedef struct {
    BlkStore store;
    BlkStore *below;       /* owned */
    const GPtrArray *base; /* the base's log */
    guint *first;          /* G_MAXUINT: it has not changed */
} Sentry;

static void
look(BlkStore *store)
{
    const Sentry *sentry = (Sentry *) store;

    *sentry->first = MIN(*sentry->first, sentry->base->len);
}

static gboolean
sentry_pread(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    return blk_pread_upto(((Sentry *) store)->below, off, buf, len, got, error);
}

static gboolean
sentry_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error)
{
    look(store);
    return blk_pwrite(((Sentry *) store)->below, off, buf, len, error);
}

static gboolean
sentry_truncate(BlkStore *store, guint64 bytes, GError **error)
{
    look(store);
    return blk_truncate(((Sentry *) store)->below, bytes, error);
}

static gboolean
sentry_flush(BlkStore *store, GError **error)
{
    return blk_flush(((Sentry *) store)->below, error);
}

static gboolean
sentry_size(BlkStore *store, guint64 *bytes, GError **error)
{
    return blk_size(((Sentry *) store)->below, bytes, error);
}

static void
sentry_free(BlkStore *store)
{
    blk_free(((Sentry *) store)->below);
    g_free(store);
}

static const BlkOps sentry_ops = {
    .name = "sentry",
    .pread = sentry_pread,
    .pwrite = sentry_pwrite,
    .truncate = sentry_truncate,
    .flush = sentry_flush,
    .size = sentry_size,
    .free = sentry_free,
};

static BlkStore *
sentry_new(BlkStore *below, const GPtrArray *base, guint *first)
{
    Sentry *sentry = g_new0(Sentry, 1);

    sentry->store = (BlkStore){ .ops = &sentry_ops, .label = g_strdup("overlay"), .writable = TRUE };
    sentry->below = below;
    sentry->base = base;
    sentry->first = first;
    return &sentry->store;
}

/* Through the overlay only: a base that is longer stays so. */
static char *
judge_base(const guint8 *bytes, gsize len, gboolean durable, gboolean carry_on, gpointer data)
{
    Layers down = *(Layers *) data;

    down.way = LAYERS_DOWN;
    return layers_judge(bytes, len, FALSE, FALSE, &down);
}

/* The same, with @data's overlay empty by now. */
static char *
judge_base_alone(const guint8 *bytes, gsize len, gboolean durable, gboolean carry_on, gpointer data)
{
    g_autofree char *found = judge_base(bytes, len, durable, carry_on, data);

    return found ? g_strdup_printf("under an overlay that is empty: %s", found) : NULL;
}

static GPtrArray *
first_events(const GPtrArray *log, guint n)
{
    GPtrArray *events = g_ptr_array_new();

    for (guint i = 0; i < MIN(n, log->len); i++)
        g_ptr_array_add(events, log->pdata[i]);
    return events;
}

static void
commit_once(const LayersShape *shape, guint32 seed, const CrashOptions *options, CrashReport *report)
{
    g_autoptr(Layers) layers = layers_new(shape, LAYERS_AWAY, seed);
    g_autoptr(GPtrArray) overlay_log = blk_record_log_new(), base_log = blk_record_log_new();
    g_autoptr(BlkStore) overlay = layers_store(layers, layers->overlay, shape->name);
    g_autoptr(BlkStore) base = layers_store(layers, layers->base, "base");
    g_autoptr(GBytes) base_before = g_bytes_ref(layers->base), overlay_after = NULL;
    g_autoptr(GError) error = NULL;
    guint first = G_MAXUINT;
    CrashOptions replaying = *options;

    layers_commit(layers, sentry_new(blk_record_new(overlay, overlay_log), base_log, &first),
                  blk_record_new(base, base_log), &error);
    g_assert_no_error(error);
    replaying.judge_data = layers;
    replaying.judge = judge_base;
    crash_replay(base_before, base_log, NULL, &replaying, report);

    Layers emptied = *layers;
    overlay_after = blk_mem_snapshot(overlay);
    emptied.overlay = overlay_after;
    replaying.judge_data = &emptied;
    replaying.judge = judge_base_alone;
    replaying.only_last = TRUE;
    g_autoptr(GPtrArray) before = first_events(base_log, first);
    crash_replay(base_before, before, NULL, &replaying, report);

    layers_commit_base(layers);
    replaying.judge_data = layers;
    replaying.judge = layers_judge;
    replaying.only_last = FALSE;
    crash_replay(layers->overlay, overlay_log, NULL, &replaying, report);
}

void
sweep_commit(const CrashOptions *options, CrashReport *report)
{
    for (gsize i = 0; i < layers_n_shapes; i++)
        for (guint round = 0; round < 2 * sweep_factor(); round++) {
            if (options->stop_at_first && report->violations > 0)
                return;
            commit_once(&layers_shapes[i], g_str_hash(layers_shapes[i].name) + round, options, report);
        }
}
