#include "crash/sweeps.h"

#include "base/num.h"
#include "block/record.h"
#include "crash/guest.h"

#define OPS 40

guint
sweep_factor(void)
{
    return g_getenv("KHO_SOAK") ? 8 : 1;
}

void
sweep_assert(const char *verb, const CrashReport *report, guint least)
{
    guint distinct = g_hash_table_size(report->distinct);

    g_test_message("%s: %u distinct states, %" G_GUINT64_FORMAT " judged, %" G_GUINT64_FORMAT " violations",
                   verb, distinct, report->states, report->violations);
    if (report->first)
        g_test_message("%s", report->first);
    g_assert_cmpuint(report->violations, ==, 0);
    g_assert_cmpuint(distinct, >=, least);
}

/* Disks of every refcount width, cluster size up to 16 KiB and some sizes, from which all else is varied. */
#define CREATED_DISKS (6 * 7 * 10)

static Qcow2CreateOptions
created_disk(guint i, const char *backing_file)
{
    static const guint64 sizes[] = { 0,        512,       64 * KIB, 1 * MIB,    3 * MIB,
                                     40 * MIB, 200 * MIB, 6 * GIB,  1100 * MIB, 9 * MIB };
    guint cluster_bytes = 512u << i % 6, order = i / 6 % 7;
    guint64 size = sizes[i / 42];

    /* A cluster of 512 bytes reaches 128 GiB at most; here L1 tables stay below 64 KiB. */
    return (Qcow2CreateOptions){
        .guest_bytes = MIN(size, (guint64) cluster_bytes * cluster_bytes / 8 * 8192),
        .cluster_bytes = cluster_bytes,
        .refcount_bits = 1u << order,
        .version = order == 4 && i % 4 == 0 ? 2 : 3,
        .lazy_refcounts = order != 4 && i % 5 == 0,
        .compression = order != 4 && i % 7 == 0 ? QCOW2_COMPRESSION_ZSTD : QCOW2_COMPRESSION_ZLIB,
        .backing_file = cluster_bytes >= 2048 && i % 3 == 0 ? backing_file : NULL,
        .backing_format = cluster_bytes >= 2048 && i % 3 == 0 ? "raw" : NULL,
    };
}

static void
create_one(const Qcow2CreateOptions *create, const CrashOptions *options, CrashReport *report)
{
    CrashOptions creating = *options;
    g_autoptr(Oracle) oracle = oracle_new(create->guest_bytes / SECTOR, 1);
    g_autoptr(GPtrArray) log = blk_record_log_new();
    g_autoptr(BlkStore) mem = blk_mem_new(NULL, 0, "new");
    g_autoptr(BlkStore) record = blk_record_new(mem, log);
    g_autoptr(GBytes) nothing = g_bytes_new(NULL, 0);
    g_autoptr(GError) error = NULL;

    oracle->backing_file = create->backing_file;
    oracle->empty = TRUE;
    oracle_begin(oracle, OP_FLUSH, 0, 0, 0, NULL);
    qcow2_create(record, create, &error);
    g_assert_no_error(error);
    oracle_end(oracle, log->len, TRUE);
    creating.may_be_nothing = TRUE;
    crash_replay(nothing, log, oracle, &creating, report);
}

void
sweep_create(const CrashOptions *options, CrashReport *report)
{
    g_autofree char *long_name = g_strnfill(1000, 'n'); /* does not end in the header's first sector */

    for (guint i = 0; i < CREATED_DISKS && !(options->stop_at_first && report->violations); i++) {
        Qcow2CreateOptions create = created_disk(i, i % 2 ? long_name : "base.raw");
        create_one(&create, options, report);
    }
}

static void
run_ops(const Plan *plan, Scenario *s)
{
    guint ops = s->disk->ops ? s->disk->ops : OPS;
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < ops && !error; i++)
        plan_step(plan, s, &error);
    if (!error)
        scenario_close(s, &error);
    g_assert_no_error(error);
}

static void
sweep_once(const Plan *plan, const ScenarioDisk *disk, guint32 seed, const CrashOptions *options,
           CrashReport *report)
{
    g_autoptr(GError) error = NULL;
    Oracle *oracle = NULL;
    g_autoptr(GBytes) base = plan_disk_new(disk, &oracle);
    g_auto(Scenario) s = { .disk = disk, .oracle = oracle, .log = blk_record_log_new() };
    g_autoptr(BlkStore) mem = blk_mem_new(g_bytes_get_data(base, NULL), g_bytes_get_size(base), disk->name);

    s.rand = g_rand_new_with_seed(seed);
    scenario_open(&s, blk_record_new(mem, s.log), &error);
    g_assert_no_error(error);
    run_ops(plan, &s);
    guint64 before = report->violations;
    CrashOptions replaying = *options;
    if (disk->random_states)
        replaying.random_states = MIN(disk->random_states, options->random_states);
    crash_replay(base, s.log, s.oracle, &replaying, report);
    if (report->violations > 0 && before == 0) {
        g_autofree char *first = g_steal_pointer(&report->first);
        report->first = g_strdup_printf("%s, seed %u: %s", disk->name, seed, first);
    }
}

void
sweep_plan(const Plan *plan, const CrashOptions *options, CrashReport *report)
{
    const char *shift = g_getenv("KHO_SOAK") ? g_getenv("KHO_SEED") : NULL;
    guint32 base = shift ? (guint32) g_ascii_strtoull(shift, NULL, 10) : 0;

    for (gsize i = 0; i < plan->n_disks; i++)
        for (guint round = 0; round < sweep_factor(); round++) {
            if (options->stop_at_first && report->violations > 0)
                return;
            sweep_once(plan, &plan->disks[i], g_str_hash(plan->disks[i].name) + base + round, options,
                       report);
        }
}
