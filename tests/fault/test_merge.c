/* For every n, the n-th write or flush of a merge fails, or the store is full there: what is read through the
 * overlay stays, whatever reached the disk; an error says that it was not done; and the merge can be made
 * again. */
#include "block/fault.h"
#include "block/record.h"
#include "crash/layers.h"

typedef struct {
    const Layers *layers;
    gboolean done; /* the merge said that it was */
} Subject;

static char *
judge(const guint8 *bytes, gsize len, gboolean durable, gboolean carry_on, gpointer data)
{
    const Subject *subject = data;

    return layers_judge(bytes, len, durable && subject->done, carry_on, (gpointer) subject->layers);
}

/* FALSE once there is no n-th write (flush, byte). */
static gboolean
run_with_fault(const Layers *layers, FaultKind kind, guint64 n, gboolean for_ever)
{
    GBytes *base = layers_written(layers);
    g_autoptr(BlkStore) mem = layers_store(layers, base, "written");
    g_autoptr(GPtrArray) log = blk_record_log_new(), ignored = blk_record_log_new();
    g_autoptr(BlkStore) record = blk_record_new(mem, log);
    g_autoptr(BlkStore) flaky = blk_fault_new(record, kind, n, for_ever);
    g_autoptr(GError) error = NULL;
    Subject subject = { .layers = layers };
    CrashOptions options = { .random_states = 4, .only_last = TRUE, .judge = judge, .judge_data = &subject };
    g_auto(CrashReport) report;

    /* The image frees its store: another one stands before the faulty one, whose counts are read afterwards.
     */
    subject.done = layers_merge(layers, blk_record_new(flaky, ignored), NULL, &error);
    gboolean hit = blk_fault_counts(flaky).faults > 0;
    /* Space that cannot be given back is no failure. */
    g_assert_true(subject.done == (error == NULL) && (hit || subject.done));
    g_assert_true(!subject.done || kind != FAULT_NTH_FLUSH || !hit);

    crash_report_init(&report);
    crash_replay(base, log, NULL, &options, &report);
    if (report.first)
        g_test_message("%s, fault %" G_GUINT64_FORMAT " (%s): %s", layers->shape->name, n,
                       error ? error->message : "none", report.first);
    g_assert_cmpuint(report.violations, ==, 0);
    return hit;
}

static const struct {
    const char *name;
    FaultKind kind;
    gboolean for_ever;
} faults[] = {
    { "write-once", FAULT_NTH_WRITE, FALSE }, { "write-for-ever", FAULT_NTH_WRITE, TRUE },
    { "torn-once", FAULT_TORN, FALSE },       { "torn-for-ever", FAULT_TORN, TRUE },
    { "flush-once", FAULT_NTH_FLUSH, FALSE }, { "flush-for-ever", FAULT_NTH_FLUSH, TRUE },
};

/* Where the overlay is emptied, its data is in the base. */
static Layers *
new_layers(gsize shape, LayersWay way, guint32 seed)
{
    Layers *layers = layers_new(&layers_shapes[shape], way, seed);

    if (way == LAYERS_AWAY)
        layers_commit_base(layers);
    return layers;
}

static void
test_faults(gconstpointer data)
{
    LayersWay way = (LayersWay) GPOINTER_TO_INT(data);

    for (gsize s = 0; s < layers_n_shapes; s++) {
        g_autoptr(Layers) layers = new_layers(s, way, (guint32) s);
        for (gsize f = 0; f < G_N_ELEMENTS(faults); f++) {
            guint64 n = 1;
            while (run_with_fault(layers, faults[f].kind, n, faults[f].for_ever))
                n++;
            g_test_message("%s, %s: %" G_GUINT64_FORMAT " faults", layers_shapes[s].name, faults[f].name,
                           n - 1);
            g_assert_cmpuint(n, >, 1);
        }
    }
}

static void
test_no_space(gconstpointer data)
{
    LayersWay way = (LayersWay) GPOINTER_TO_INT(data);

    for (gsize s = 0; s < layers_n_shapes; s++) {
        g_autoptr(Layers) layers = new_layers(s, way, (guint32) s + 100);
        guint64 limit = g_bytes_get_size(layers_written(layers));
        while (run_with_fault(layers, FAULT_NO_SPACE, limit, FALSE))
            limit += 512;
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/fault/merge/up", GINT_TO_POINTER(LAYERS_UP), test_faults);
    g_test_add_data_func("/fault/merge/down", GINT_TO_POINTER(LAYERS_DOWN), test_faults);
    g_test_add_data_func("/fault/merge/away", GINT_TO_POINTER(LAYERS_AWAY), test_faults);
    g_test_add_data_func("/fault/merge/onto", GINT_TO_POINTER(LAYERS_ONTO), test_faults);
    g_test_add_data_func("/fault/merge/away/no-space", GINT_TO_POINTER(LAYERS_AWAY), test_no_space);
    g_test_add_data_func("/fault/merge/onto/no-space", GINT_TO_POINTER(LAYERS_ONTO), test_no_space);
    g_test_add_data_func("/fault/merge/up/no-space", GINT_TO_POINTER(LAYERS_UP), test_no_space);
    g_test_add_data_func("/fault/merge/down/no-space", GINT_TO_POINTER(LAYERS_DOWN), test_no_space);
    return g_test_run();
}
