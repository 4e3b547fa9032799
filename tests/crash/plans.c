#include "crash/plans.h"

#include "base/num.h"
#include "block/record.h"
#include "crash/guest.h"

static void
random_range(Scenario *s, guint64 *first, guint64 *n)
{
    /* After a resize that failed the image may have either size. */
    guint64 size = MIN(s->oracle->now_sectors, s->image->guest_bytes / SECTOR);

    *first = (guint64) g_rand_int_range(s->rand, 0, (gint32) size);
    guint64 wanted = (guint64) g_rand_int_range(s->rand, 1, 24); /* MIN would throw twice */
    *n = MIN(wanted, size - *first);
}

void
plan_random_write(Scenario *s, GError **error)
{
    guint64 first, n;

    random_range(s, &first, &n);
    scenario_write(s, first, n, error);
}

void
plan_random_zero(Scenario *s, GError **error)
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
random_empty(Scenario *s, GError **error)
{
    if (g_rand_int_range(s->rand, 0, 3) == 0)
        scenario_empty(s, error);
}

void
plan_random_flush(Scenario *s, GError **error)
{
    scenario_flush(s, error);
}

void
plan_random_resize(Scenario *s, GError **error)
{
    guint64 cluster = s->disk->create.cluster_bytes / SECTOR;
    guint64 most = s->oracle->capacity / cluster;

    /* Version 2 cannot tell the size of a snapshot's disk. */
    if (s->disk->create.version == 2 && scenario_live_snapshots(s) > 0)
        return;
    guint64 clusters = (guint64) g_rand_int_range(s->rand, 1, (gint32) most + 1);
    scenario_resize(s, clusters * cluster - (cluster > 1 && g_rand_boolean(s->rand)), error);
}

void
plan_random_thick(Scenario *s, GError **error)
{
    guint64 cluster = s->disk->create.cluster_bytes / SECTOR, most = s->oracle->capacity / cluster;
    guint64 from = MAX(s->oracle->now_sectors, s->image->guest_bytes / SECTOR);

    if ((s->disk->create.version == 2 && scenario_live_snapshots(s) > 0) || from / cluster + 1 >= most)
        return;
    guint64 clusters = (guint64) g_rand_int_range(s->rand, (gint32) (from / cluster) + 1, (gint32) most);
    scenario_thick(s, clusters * cluster, g_rand_boolean(s->rand), error);
}

/* Any layout that an image without extras can have. */
static void
random_amend(Scenario *s, GError **error)
{
    static const guint bits[] = { 8, 16, 32, 64 };
    FormatAmend wish = { .version = g_rand_boolean(s->rand) ? 3 : 2, .refcount_bits = 16 };

    if (wish.version == 3) {
        wish.refcount_bits = bits[g_rand_int_range(s->rand, 0, G_N_ELEMENTS(bits))];
        wish.lazy_refcounts = g_rand_boolean(s->rand) ? 1 : -1;
    }
    scenario_amend(s, &wish, error);
}

void
plan_step(const Plan *plan, Scenario *s, GError **error)
{
    plan->ops[g_rand_int_range(s->rand, 0, (gint32) plan->n_ops)](s, error);
}

GBytes *
plan_disk_new(const ScenarioDisk *disk, Oracle **oracle)
{
    GBytes *base = scenario_disk_new(disk, oracle);
    g_autoptr(GError) error = NULL;

    if (disk->fill_bytes == 0)
        return base;
    g_autoptr(GPtrArray) log = blk_record_log_new();
    g_autoptr(BlkStore) mem = blk_mem_new(g_bytes_get_data(base, NULL), g_bytes_get_size(base), disk->name);
    Scenario s = { .disk = disk, .oracle = *oracle };
    scenario_open(&s, blk_record_new(mem, log), &error);
    g_assert_no_error(error);
    for (guint64 at = 0; at < disk->fill_bytes; at += MIN(disk->fill_bytes - at, 64 * KIB))
        g_assert_true(scenario_write(&s, at / SECTOR, MIN(disk->fill_bytes - at, 64 * KIB) / SECTOR, NULL));
    g_assert_true(scenario_close(&s, NULL));
    oracle_rebase(*oracle);
    g_bytes_unref(base);
    return blk_mem_snapshot(mem);
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
    { .name = "subclusters",
      .create = { .guest_bytes = 200 * KIB,
                  .cluster_bytes = 16384,
                  .refcount_bits = 16,
                  .extended_l2 = TRUE } },
    { .name = "subclusters over a backing file",
      .backing_bytes = 150 * KIB,
      .create = { .guest_bytes = 200 * KIB,
                  .cluster_bytes = 16384,
                  .refcount_bits = 8,
                  .extended_l2 = TRUE,
                  .backing_file = "b",
                  .backing_format = "raw" } },
    { .name = "refcount table grows",
      .create = { .guest_bytes = 2 * MIB + 128 * KIB, .cluster_bytes = 512, .refcount_bits = 64 },
      .fill_bytes = 1920 * KIB,

      .random_states = 6,
      .ops = 16 },
};

static const RandomOp write_ops[] = {
    plan_random_write,  plan_random_write,  plan_random_write, plan_random_write, plan_random_write,
    plan_random_write,  plan_random_zero,   plan_random_zero,  plan_random_flush, plan_random_flush,
    random_snapshot_op, random_snapshot_op, random_empty,
};

const Plan plan_write = { "write", written, G_N_ELEMENTS(written), write_ops, G_N_ELEMENTS(write_ops) };

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
    { .name = "resize over a backing file",
      .capacity_bytes = 160 * KIB,
      .backing_bytes = 100 * KIB,
      .create = { .guest_bytes = 32 * KIB,
                  .cluster_bytes = 1024,
                  .refcount_bits = 16,
                  .backing_file = "b",
                  .backing_format = "raw" } },
    { .name = "resize over a backing file, version 2",
      .capacity_bytes = 160 * KIB,
      .backing_bytes = 100 * KIB,
      .create = { .guest_bytes = 32 * KIB,
                  .cluster_bytes = 512,
                  .refcount_bits = 16,
                  .version = 2,
                  .backing_file = "b",
                  .backing_format = "raw" } },
    { .name = "resize, subclusters over a backing file",
      .capacity_bytes = 320 * KIB,
      .backing_bytes = 200 * KIB,
      .random_states = 12,
      .create = { .guest_bytes = 64 * KIB,
                  .cluster_bytes = 16384,
                  .refcount_bits = 16,
                  .extended_l2 = TRUE,
                  .backing_file = "b",
                  .backing_format = "raw" } },
    { .name = "resize, L1 table moves",
      .capacity_bytes = 5 * MIB,
      .random_states = 6,
      .ops = 16,
      .create = { .guest_bytes = 1 * MIB, .cluster_bytes = 512, .refcount_bits = 16 } },
};

static const RandomOp resize_ops[] = {
    plan_random_resize, plan_random_resize, plan_random_resize, plan_random_write,  plan_random_write,
    plan_random_write,  plan_random_zero,   plan_random_flush,  random_snapshot_op, plan_random_thick,
};

const Plan plan_resize = { "resize", resized, G_N_ELEMENTS(resized), resize_ops, G_N_ELEMENTS(resize_ops) };

static const ScenarioDisk amended[] = {
    { .name = "amend, 512 byte clusters",
      .create = { .guest_bytes = 64 * KIB, .cluster_bytes = 512, .refcount_bits = 16 } },
    { .name = "amend, 4k clusters",
      .create = { .guest_bytes = 128 * KIB, .cluster_bytes = 4096, .refcount_bits = 64 } },
    { .name = "amend, version 2",
      .create = { .guest_bytes = 64 * KIB, .cluster_bytes = 1024, .refcount_bits = 16, .version = 2 } },
    { .name = "amend, lazy refcounts",
      .create = { .guest_bytes = 64 * KIB,
                  .cluster_bytes = 1024,
                  .refcount_bits = 16,
                  .lazy_refcounts = TRUE } },
    { .name = "amend, compressed",
      .compressed = TRUE,
      .create = { .guest_bytes = 96 * KIB, .cluster_bytes = 4096 } },
    { .name = "amend over a backing file",
      .backing_bytes = 64 * KIB,
      .create = { .guest_bytes = 64 * KIB,
                  .cluster_bytes = 1024,
                  .refcount_bits = 16,
                  .backing_file = "b",
                  .backing_format = "raw" } },
};

static const RandomOp amend_ops[] = {
    random_amend,     random_amend,     random_amend,      plan_random_write,  plan_random_write,
    plan_random_zero, plan_random_zero, plan_random_flush, random_snapshot_op,
};

const Plan plan_amend = { "amend", amended, G_N_ELEMENTS(amended), amend_ops, G_N_ELEMENTS(amend_ops) };
