/* For every n, the n-th write or flush of a scenario fails: the image in use then shows only what was asked
 * of it, refuses or goes on, and what is left on disk is sound. After a failed flush anything since the last
 * good one may be lost, so those states are replayed like a crash; and nothing may be called durable any
 * more. */
#include "block/fault.h"
#include "block/record.h"
#include "crash/guest.h"
#include "crash/plans.h"
#include "crash/replay.h"
#include "qcow2/check.h"
#include "qcow2/header.h"

#include <string.h>

#define OPS 14

typedef struct {
    const char *name;
    FaultKind kind;
    gboolean for_ever;
} Fault;

static const Fault faults[] = {
    { "write-once", FAULT_NTH_WRITE, FALSE }, { "write-for-ever", FAULT_NTH_WRITE, TRUE },
    { "torn-once", FAULT_TORN, FALSE },       { "torn-for-ever", FAULT_TORN, TRUE },
    { "flush-once", FAULT_NTH_FLUSH, FALSE }, { "flush-for-ever", FAULT_NTH_FLUSH, TRUE },
};

typedef struct {
    const Plan *plan;
    const ScenarioDisk *disk;
    GBytes *base;
    const Oracle *oracle; /* as it stands before the first operation */
} Subject;

static char *
judge_sector(guint64 sector, guint64 value, gboolean whole, gconstpointer view)
{
    if (whole && oracle_allows(view, sector, value))
        return NULL;
    return g_strdup_printf("sector %" G_GUINT64_FORMAT " holds %" G_GINT64_MODIFIER "x", sector, value);
}

/* What the open image shows must be something that was written, in whole sectors. */
static void
assert_reads(Scenario *s, guint64 n)
{
    g_auto(OracleView) view = { 0 };

    oracle_view_at(s->oracle, s->log->len, &view);
    g_assert_true(oracle_allows_size(&view, s->image->guest_bytes / SECTOR));
    g_autofree char *found = guest_look(s->image, judge_sector, &view);
    if (found)
        g_test_message("fault %" G_GUINT64_FORMAT ": in use, %s", n, found);
    g_assert_null(found);
}

/* After the fault: reads fit, and writing goes on or is refused. A flush that failed is never made good by
 * another. */
static void
go_on(Scenario *s, const Fault *fault, guint64 n)
{
    assert_reads(s, n);
    for (guint i = 0; i < 3; i++) {
        scenario_write(s, 3 * i, 2, NULL);
        gboolean flushed = scenario_flush(s, NULL);
        g_assert_false(flushed && fault->kind == FAULT_NTH_FLUSH);
    }
    assert_reads(s, n);
}

/* Runs the scenario with the fault at @n. FALSE once it has no n-th write (flush). */
static gboolean
run_with_fault(const Subject *subject, const Fault *fault, guint64 n)
{
    gsize len;
    const guint8 *bytes = g_bytes_get_data(subject->base, &len);
    g_auto(Scenario) s = { .disk = subject->disk,
                           .oracle = oracle_new_like(subject->oracle),
                           .log = blk_record_log_new() };
    g_autoptr(BlkStore) mem = blk_mem_new(bytes, len, subject->disk->name);
    g_autoptr(BlkStore) record = blk_record_new(mem, s.log);
    g_autoptr(BlkStore) flaky = blk_fault_new(record, fault->kind, n, fault->for_ever);
    g_autoptr(GPtrArray) ignored = blk_record_log_new();
    g_autoptr(GError) error = NULL;
    CrashOptions options = { .random_states = 4, .only_last = TRUE };
    g_auto(CrashReport) report;

    s.rand = g_rand_new_with_seed(g_str_hash(subject->disk->name));
    /* The image frees its store: another one stands before the faulty one, whose counts are read afterwards.
     */
    scenario_open(&s, blk_record_new(flaky, ignored), &error);
    g_assert_no_error(error);
    for (guint i = 0; i < OPS && !error; i++)
        plan_step(subject->plan, &s, &error);
    if (error)
        go_on(&s, fault, n);
    gboolean closed = scenario_close(&s, NULL);
    gboolean hit = blk_fault_counts(flaky).faults > 0;
    g_assert_true(hit || (closed && !error));

    crash_report_init(&report);
    crash_replay(subject->base, s.log, s.oracle, &options, &report);
    if (report.first)
        g_test_message("fault %" G_GUINT64_FORMAT " (%s): %s", n, error ? error->message : "none",
                       report.first);
    g_assert_cmpuint(report.violations, ==, 0);
    return hit;
}

static void
test_faults(gconstpointer data)
{
    const Plan *plan = data;

    for (gsize d = 0; d < plan->n_disks; d++) {
        Oracle *oracle = NULL;
        g_autoptr(GBytes) base = plan_disk_new(&plan->disks[d], &oracle);
        g_autoptr(Oracle) owned = oracle;
        Subject subject = { plan, &plan->disks[d], base, oracle };
        if (plan->disks[d].fill_bytes > 0 && !g_getenv("KHO_SOAK"))
            continue; /* megabytes for each of hundreds of runs */
        for (gsize f = 0; f < G_N_ELEMENTS(faults); f++) {
            guint64 n = 1;
            while (run_with_fault(&subject, &faults[f], n))
                n++;
            g_test_message("%s, %s: %" G_GUINT64_FORMAT " faults", plan->disks[d].name, faults[f].name,
                           n - 1);
            g_assert_cmpuint(n, >, 1);
        }
    }
}

/* The store is full at every size that the scenario passes through. */
static void
test_no_space(gconstpointer data)
{
    const Plan *plan = data;
    Fault full = { "no-space", FAULT_NO_SPACE, FALSE };

    for (gsize d = 0; d < plan->n_disks; d++) {
        const ScenarioDisk *disk = &plan->disks[d];
        Oracle *oracle = NULL;
        if (disk->fill_bytes > 0)
            continue;
        g_autoptr(GBytes) base = plan_disk_new(disk, &oracle);
        g_autoptr(Oracle) owned = oracle;
        Subject subject = { plan, disk, base, oracle };
        guint64 limit = g_bytes_get_size(base), step = disk->create.cluster_bytes;
        while (run_with_fault(&subject, &full, limit))
            limit += step;
        g_assert_cmpuint(limit, >, g_bytes_get_size(base));
    }
}

static void
assert_none_or_whole(BlkStore *mem, gboolean made)
{
    g_autofree guint8 *head = NULL;
    Qcow2Header header;
    FormatCheck found = { 0 };

    if (!made && !qcow2_header_read(mem, &header, &head, NULL))
        return;
    g_assert_true(qcow2_check_file(mem, &found, NULL, NULL));
    g_assert_cmpuint(found.corruptions + found.leaks + found.check_errors, ==, 0);
}

/* Making an image: after a fault there is no image, or the whole one; an error says so. */
static void
test_create(void)
{
    static const Qcow2CreateOptions disks[] = {
        { .guest_bytes = 3 << 20, .cluster_bytes = 512, .refcount_bits = 64 },
        { .guest_bytes = 1 << 30, .cluster_bytes = 4096, .backing_file = "base", .backing_format = "raw" },
    };

    for (gsize d = 0; d < G_N_ELEMENTS(disks); d++)
        for (gsize f = 0; f < G_N_ELEMENTS(faults); f++)
            for (guint64 n = 1, hit = TRUE; hit; n++) {
                g_autoptr(BlkStore) mem = blk_mem_new(NULL, 0, "new");
                g_autoptr(BlkStore) flaky = blk_fault_new(mem, faults[f].kind, n, faults[f].for_ever);
                g_autoptr(GError) error = NULL;
                gboolean made = qcow2_create(flaky, &disks[d], &error);
                hit = blk_fault_counts(flaky).faults > 0;
                g_assert_true(made == (hit == FALSE));
                g_assert_true(made == (error == NULL));
                assert_none_or_whole(mem, made);
            }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fault/create", test_create);
    g_test_add_data_func("/fault/write", &plan_write, test_faults);
    g_test_add_data_func("/fault/resize", &plan_resize, test_faults);
    g_test_add_data_func("/fault/amend", &plan_amend, test_faults);
    g_test_add_data_func("/fault/amend/no-space", &plan_amend, test_no_space);
    g_test_add_data_func("/fault/write/no-space", &plan_write, test_no_space);
    g_test_add_data_func("/fault/resize/no-space", &plan_resize, test_no_space);
    return g_test_run();
}
