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

typedef void (*RandomOp)(Scenario *s, GError **error);

/* What an operation is drawn from: a row as often as it is to come up. */
typedef struct {
    const RandomOp *ops;
    gsize n;
} Mix;

static void
random_range(Scenario *s, guint64 *first, guint64 *n)
{
    guint64 size = s->oracle->now_sectors;

    *first = (guint64) g_rand_int_range(s->rand, 0, (gint32) size);
    guint64 wanted = (guint64) g_rand_int_range(s->rand, 1, 24); /* MIN would throw twice */
    *n = MIN(wanted, size - *first);
}

static void
random_write(Scenario *s, GError **error)
{
    guint64 first, n;

    random_range(s, &first, &n);
    scenario_write(s, first, n, error);
}

static void
random_zero(Scenario *s, GError **error)
{
    guint64 first, n;

    random_range(s, &first, &n);
    scenario_zero(s, first, n, error);
}

static void
random_snapshot_op(Scenario *s, GError **error)
{
    guint live = scenario_live_snapshots(s), bits = s->disk->create.refcount_bits;
    gint coin = g_rand_int_range(s->rand, 0, 10);

    if (bits == 1)
        return; /* a count of one bit cannot be shared */
    if (live == 0 || (coin < 4 && live < 3))
        scenario_snapshot(s, error);
    else if (coin < 8)
        scenario_delete(s, scenario_any_snapshot(s), error);
    else
        scenario_revert(s, scenario_any_snapshot(s), error);
}

static void
random_flush(Scenario *s, GError **error)
{
    scenario_flush(s, error);
}

static void
random_resize(Scenario *s, GError **error)
{
    guint64 cluster = s->disk->create.cluster_bytes / SECTOR;
    guint64 most = s->oracle->capacity / cluster;

    /* Version 2 cannot tell the size of a snapshot's disk. */
    if (s->disk->create.version == 2 && scenario_live_snapshots(s) > 0)
        return;
    guint64 clusters = (guint64) g_rand_int_range(s->rand, 1, (gint32) most + 1);
    scenario_resize(s, clusters * cluster - (cluster > 1 && g_rand_boolean(s->rand)), error);
}

static void
run_ops(Scenario *s, const Mix *mix, guint ops)
{
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < ops && !error; i++)
        mix->ops[g_rand_int_range(s->rand, 0, (gint32) mix->n)](s, &error);
    if (!error)
        scenario_close(s, &error);
    g_assert_no_error(error);
}

static void
sweep_once(const ScenarioDisk *disk, const Mix *mix, guint32 seed, const CrashOptions *options,
           CrashReport *report)
{
    g_autoptr(GError) error = NULL;
    Oracle *oracle = NULL;
    g_autoptr(GBytes) base = scenario_disk_new(disk, &oracle);
    g_auto(Scenario) s = { .disk = disk, .oracle = oracle, .log = blk_record_log_new() };
    g_autoptr(BlkStore) mem = blk_mem_new(g_bytes_get_data(base, NULL), g_bytes_get_size(base), disk->name);

    s.rand = g_rand_new_with_seed(seed);
    scenario_open(&s, blk_record_new(mem, s.log), &error);
    g_assert_no_error(error);
    /* Before it is recorded: most of a disk that is to be nearly full. */
    for (guint64 at = 0; at < disk->fill_bytes; at += MIN(disk->fill_bytes - at, 64 * KIB))
        g_assert_true(scenario_write(&s, at / SECTOR, MIN(disk->fill_bytes - at, 64 * KIB) / SECTOR, NULL));
    if (disk->fill_bytes > 0) {
        g_assert_true(scenario_flush(&s, NULL));
        g_bytes_unref(base);
        base = blk_mem_snapshot(mem);
        g_ptr_array_set_size(s.log, 0);
        oracle_rebase(s.oracle);
    }
    run_ops(&s, mix, disk->ops ? disk->ops : OPS);
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

static void
sweep_disks(const ScenarioDisk *disks, gsize n, const Mix *mix, const CrashOptions *options,
            CrashReport *report)
{
    const char *shift = g_getenv("KHO_SOAK") ? g_getenv("KHO_SEED") : NULL;
    guint32 base = shift ? (guint32) g_ascii_strtoull(shift, NULL, 10) : 0;

    for (gsize i = 0; i < n; i++)
        for (guint round = 0; round < sweep_factor(); round++) {
            if (options->stop_at_first && report->violations > 0)
                return;
            sweep_once(&disks[i], mix, g_str_hash(disks[i].name) + base + round, options, report);
        }
}

static const ScenarioDisk written[] = {
    { .name = "512 byte clusters",
      .create = { .guest_bytes = 64 * KIB, .cluster_bytes = 512, .refcount_bits = 16 } },
    { .name = "4k clusters",
      .create = { .guest_bytes = 160 * KIB, .cluster_bytes = 4096, .refcount_bits = 16 } },
    { .name = "8-bit refcounts",
      .create = { .guest_bytes = 96 * KIB, .cluster_bytes = 1024, .refcount_bits = 8 } },
    { .name = "64-bit refcounts",
      .create = { .guest_bytes = 96 * KIB, .cluster_bytes = 1024, .refcount_bits = 64 } },
    { .name = "1-bit refcounts",
      .create = { .guest_bytes = 64 * KIB, .cluster_bytes = 512, .refcount_bits = 1 } },
    { .name = "version 2",
      .create = { .guest_bytes = 64 * KIB, .cluster_bytes = 1024, .refcount_bits = 16, .version = 2 } },
    { .name = "lazy refcounts",
      .create = { .guest_bytes = 64 * KIB,
                  .cluster_bytes = 1024,
                  .refcount_bits = 16,
                  .lazy_refcounts = TRUE } },
    { .name = "lazy 4k clusters",
      .create = { .guest_bytes = 128 * KIB,
                  .cluster_bytes = 4096,
                  .refcount_bits = 16,
                  .lazy_refcounts = TRUE } },
    { .name = "compressed",
      .compressed = TRUE,
      .create = { .guest_bytes = 96 * KIB, .cluster_bytes = 4096 } },
    { .name = "refcount table grows",
      .create = { .guest_bytes = 2 * MIB + 128 * KIB, .cluster_bytes = 512, .refcount_bits = 64 },
      .fill_bytes = 1920 * KIB,

      .random_states = 6,
      .ops = 16 },
};

void
sweep_write(const CrashOptions *options, CrashReport *report)
{
    static const RandomOp mix[] = {
        random_write, random_write, random_write, random_write, random_write,       random_write,
        random_zero,  random_zero,  random_flush, random_flush, random_snapshot_op, random_snapshot_op,
    };

    sweep_disks(written, G_N_ELEMENTS(written), &(Mix){ mix, G_N_ELEMENTS(mix) }, options, report);
}

static const ScenarioDisk resized[] = {
    { .name = "resize, 512 byte clusters",
      .capacity_bytes = 160 * KIB,
      .create = { .guest_bytes = 64 * KIB, .cluster_bytes = 512, .refcount_bits = 16 } },
    { .name = "resize, 4k clusters",
      .capacity_bytes = 256 * KIB,
      .create = { .guest_bytes = 64 * KIB, .cluster_bytes = 4096, .refcount_bits = 16 } },
    { .name = "resize, 64-bit refcounts",
      .capacity_bytes = 192 * KIB,
      .create = { .guest_bytes = 32 * KIB, .cluster_bytes = 1024, .refcount_bits = 64 } },
    { .name = "resize, version 2",
      .capacity_bytes = 160 * KIB,
      .create = { .guest_bytes = 64 * KIB, .cluster_bytes = 512, .refcount_bits = 16, .version = 2 } },
    { .name = "resize, lazy refcounts",
      .capacity_bytes = 192 * KIB,
      .create = { .guest_bytes = 64 * KIB,
                  .cluster_bytes = 1024,
                  .refcount_bits = 16,
                  .lazy_refcounts = TRUE } },
    { .name = "resize, compressed",
      .capacity_bytes = 192 * KIB,
      .compressed = TRUE,
      .create = { .guest_bytes = 96 * KIB, .cluster_bytes = 4096 } },
    { .name = "resize, L1 table moves",
      .capacity_bytes = 5 * MIB,
      .random_states = 6,
      .ops = 16,
      .create = { .guest_bytes = 1 * MIB, .cluster_bytes = 512, .refcount_bits = 16 } },
};

void
sweep_resize(const CrashOptions *options, CrashReport *report)
{
    static const RandomOp mix[] = {
        random_resize, random_resize, random_resize, random_write,       random_write,
        random_write,  random_zero,   random_flush,  random_snapshot_op,
    };

    sweep_disks(resized, G_N_ELEMENTS(resized), &(Mix){ mix, G_N_ELEMENTS(mix) }, options, report);
}
