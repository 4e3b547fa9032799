#include "crash/datafile.h"

#include "base/num.h"
#include "block/record.h"
#include "crash/guest.h"
#include "crash/plans.h"
#include "crash/sweeps.h"
#include "crash/view.h"
#include "image/format.h"

#include <string.h>

#define OPS 30

enum { TABLES, DATA, STORES };

static const LuksFormat luks = {
    .spec = { { CRYPTO_AES128, CRYPTO_CBC, CIPHER_IV_PLAIN64, CRYPTO_SHA256 }, CRYPTO_SHA1 },
    .iteration_ms = 1,
    .passphrase = { "pass", 4 },
};

static const ScenarioDisk disks[] = {
    { .name = "data file",
      .capacity_bytes = 160 * KIB,
      .create = { .guest_bytes = 96 * KIB - SECTOR,
                  .cluster_bytes = 4096,
                  .refcount_bits = 16,
                  .data_file = "d" } },
    { .name = "data file over a backing file, subclusters",
      .capacity_bytes = 256 * KIB,
      .backing_bytes = 180 * KIB,
      .create = { .guest_bytes = 128 * KIB,
                  .cluster_bytes = 16384,
                  .refcount_bits = 16,
                  .extended_l2 = TRUE,
                  .data_file = "d",
                  .backing_file = "b",
                  .backing_format = "raw" } },
    { .name = "raw data file",
      .capacity_bytes = 128 * KIB,
      .create = { .guest_bytes = 64 * KIB,
                  .cluster_bytes = 512,
                  .refcount_bits = 8,
                  .data_file = "d",
                  .data_file_raw = TRUE } },
    { .name = "raw data file, subclusters",
      .capacity_bytes = 256 * KIB,
      .create = { .guest_bytes = 128 * KIB,
                  .cluster_bytes = 16384,
                  .refcount_bits = 16,
                  .extended_l2 = TRUE,
                  .data_file = "d",
                  .data_file_raw = TRUE } },
    { .name = "encrypted data file",
      .capacity_bytes = 96 * KIB,
      .create = { .guest_bytes = 48 * KIB + SECTOR,
                  .cluster_bytes = 4096,
                  .refcount_bits = 16,
                  .luks = &luks,
                  .data_file = "d" } },
};

static GByteArray *
array_copy(const GByteArray *from)
{
    GByteArray *to = g_byte_array_sized_new(from->len);

    return from->len > 0 ? g_byte_array_append(to, from->data, from->len) : to;
}

static void
array_reach(GByteArray *bytes, guint64 len)
{
    guint old = bytes->len;

    g_byte_array_set_size(bytes, (guint) len);
    if (len > old)
        memset(bytes->data + old, 0, len - old);
}

/* The part [from, to) of an event. */
static void
apply(GByteArray *bytes, const BlkEvent *event, guint64 from, guint64 to)
{
    if (event->kind == BLK_EVENT_TRUNCATE) {
        array_reach(bytes, event->off);
        return;
    }
    if (to > bytes->len)
        array_reach(bytes, to);
    if (event->kind == BLK_EVENT_WRITE)
        memcpy(bytes->data + from, event->bytes + (from - event->off), to - from);
    else
        memset(bytes->data + from, 0, to - from);
}

/* What is durable, and what may have reached the stores beside it. */
typedef struct {
    const ScenarioDisk *disk;
    const OracleView *view;
    BlkStore *below[STORES]; /* who is who in the log */
    GByteArray *durable[STORES], *state[STORES];
    GPtrArray *pending; /* of BlkEvent, in their order */
    const CrashOptions *options;
    CrashReport *report;
} Replay;

static char *
judge_sector(const Replay *r, const char *where, guint64 i, const guint8 *bytes)
{
    guint64 value = 0;
    gboolean whole = guest_sector_value(bytes, &value);

    if (whole && oracle_allows(r->view, i, value))
        return NULL;
    return g_strdup_printf("%ssector %" G_GUINT64_FORMAT " holds 0x%" G_GINT64_MODIFIER
                           "x%s; durable is 0x%" G_GINT64_MODIFIER "x",
                           where, i, value, whole ? "" : " in part", r->view->exact[i]);
}

static char *
judge_image(const Replay *r, FormatImage *image)
{
    const GByteArray *data = r->state[DATA];
    g_autofree guint8 *bytes = g_malloc0(image->guest_bytes + 1);
    g_autoptr(GError) error = NULL;
    char *found = NULL;

    if (!oracle_allows_size(r->view, image->guest_bytes / SECTOR))
        return g_strdup_printf("the disk is %" G_GUINT64_FORMAT " bytes long", image->guest_bytes);
    if (!guest_read(image, 0, bytes, image->guest_bytes, &error))
        return g_strdup_printf("read: %s", error->message);
    for (guint64 i = 0; i < image->guest_bytes / SECTOR && !found; i++)
        found = judge_sector(r, "", i, bytes + i * SECTOR);
    if (found || !r->disk->create.data_file_raw)
        return found;
    memset(bytes, 0, image->guest_bytes);
    if (data->len > 0)
        memcpy(bytes, data->data, MIN(data->len, image->guest_bytes));
    for (guint64 i = 0; i < image->guest_bytes / SECTOR && !found; i++)
        found = judge_sector(r, "in the data file ", i, bytes + i * SECTOR);
    return found;
}

static char *
judge(const Replay *r)
{
    const GByteArray *tables = r->state[TABLES], *data = r->state[DATA];
    char *found = crash_judge_check(tables->data, tables->len);
    g_autoptr(GError) error = NULL;

    if (found)
        return found;
    BlkStore *store = view_new(tables->data, tables->len, "state");
    FormatImage *image = qcow2_format.open(store, 0, &error);
    if (!image) {
        blk_free(store);
        return g_strdup_printf("open: %s", error->message);
    }
    image->ops->set_data(image, view_new(data->data, data->len, "data"));
    scenario_unlock(image, r->disk);
    image->backing_bytes = r->disk->backing_bytes;
    found = judge_image(r, image);
    image->ops->close(image, NULL);
    return found;
}

static void
count_state(const Replay *r)
{
    guint64 hash = 0;

    for (guint i = 0; i < STORES; i++) {
        g_autoptr(GBytes) bytes = g_bytes_new_static(r->state[i]->data, r->state[i]->len);
        hash = hash * 31 + g_bytes_hash(bytes);
    }
    r->report->states++;
    g_hash_table_add(r->report->distinct, g_memdup2(&hash, sizeof hash));
}

static gboolean
enough(const Replay *r)
{
    return r->options->stop_at_first && r->report->violations > 0;
}

static void
judge_state(Replay *r, const char *how, guint detail)
{
    g_autofree char *found = enough(r) ? NULL : judge(r);

    count_state(r);
    if (!found || (r->options->wanted && !strstr(found, r->options->wanted)))
        return;
    r->report->violations++;
    if (!r->report->first)
        r->report->first =
            g_strdup_printf("%s: event %u, %s %u: %s", r->disk->name, r->view->event, how, detail, found);
}

static void
begin_state(Replay *r)
{
    for (guint i = 0; i < STORES; i++) {
        g_clear_pointer(&r->state[i], g_byte_array_unref);
        r->state[i] = array_copy(r->durable[i]);
    }
}

static guint
store_of(const Replay *r, const BlkEvent *event)
{
    return event->below == r->below[DATA] ? DATA : TABLES;
}

/* Of each event nothing, all, or some of its sectors. */
static void
try_random(Replay *r, guint seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    gdouble whole = (gdouble[]){ 0.5, 0.1, 0.9 }[g_rand_int_range(rand, 0, 3)];
    gdouble torn = (gdouble[]){ 0, 0.3 }[g_rand_int_range(rand, 0, 2)];

    begin_state(r);
    for (guint i = 0; i < r->pending->len; i++) {
        const BlkEvent *event = r->pending->pdata[i];
        GByteArray *state = r->state[store_of(r, event)];
        guint64 end = event->off + event->len;
        if (event->kind == BLK_EVENT_TRUNCATE || g_rand_double(rand) >= torn) {
            if (g_rand_double(rand) < whole)
                apply(state, event, event->off, end);
            continue;
        }
        for (guint64 at = event->off, next; at < end; at = next) {
            next = MIN(num_align_down(at, SECTOR) + SECTOR, end);
            if (g_rand_boolean(rand))
                apply(state, event, at, next);
        }
    }
    judge_state(r, "seed", seed);
}

static void
judge_stretch(Replay *r, guint event)
{
    begin_state(r);
    judge_state(r, "prefix", 0);
    for (guint i = 0; i < r->pending->len && !enough(r); i++) {
        const BlkEvent *one = r->pending->pdata[i];
        apply(r->state[store_of(r, one)], one, one->off, one->off + one->len);
        judge_state(r, "prefix", i + 1);
    }
    for (guint i = 0; r->pending->len > 0 && i < r->options->random_states && !enough(r); i++)
        try_random(r, event * 1009 + i);
}

/* A flush of one store, which says nothing of the other. */
static void
make_durable(Replay *r, guint store)
{
    for (guint i = 0; i < r->pending->len;) {
        const BlkEvent *event = r->pending->pdata[i];
        if (store_of(r, event) != store) {
            i++;
            continue;
        }
        apply(r->durable[store], event, event->off, event->off + event->len);
        g_ptr_array_remove_index(r->pending, i);
    }
}

static void
replay(Replay *r, const GPtrArray *log, const Oracle *oracle)
{
    for (guint i = 0; i <= log->len && !enough(r); i++) {
        BlkEvent *event = i < log->len ? log->pdata[i] : NULL;
        if (event && event->kind != BLK_EVENT_FLUSH) {
            g_ptr_array_add(r->pending, event);
            continue;
        }
        g_auto(OracleView) view = { 0 };
        oracle_view_at(oracle, i, &view);
        r->view = &view;
        judge_stretch(r, i);
        if (event)
            make_durable(r, store_of(r, event));
    }
}

static void
run_ops(Scenario *s)
{
    static const RandomOp ops[] = {
        plan_random_write, plan_random_write, plan_random_write,  plan_random_write,
        plan_random_zero,  plan_random_flush, plan_random_resize, plan_random_thick,
    };
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < OPS && !error; i++)
        ops[g_rand_int_range(s->rand, 0, G_N_ELEMENTS(ops))](s, &error);
    if (!error)
        scenario_close(s, &error);
    g_assert_no_error(error);
}

/* What a data file may hold: the disk, and behind it whatever was there before. Of a raw one image/ makes
 * what is added zeros by writing it, which is not the engine's business. */
static GByteArray *
used_file(const ScenarioDisk *disk)
{
    GByteArray *bytes = g_byte_array_new();

    array_reach(bytes, disk->create.guest_bytes);
    if (!disk->create.data_file_raw) {
        array_reach(bytes, disk->capacity_bytes);
        memset(bytes->data + disk->create.guest_bytes, 0xee, bytes->len - disk->create.guest_bytes);
    }
    return bytes;
}

static void
sweep_disk(const ScenarioDisk *disk, guint seed, const CrashOptions *options, CrashReport *report)
{
    g_autoptr(GError) error = NULL;
    Oracle *oracle = NULL;
    g_autoptr(GBytes) base = scenario_disk_new(disk, &oracle);
    gsize len;
    const guint8 *bytes = g_bytes_get_data(base, &len);
    g_autoptr(BlkStore) tables = blk_mem_new(bytes, len, disk->name);
    GByteArray *used = used_file(disk);
    g_autoptr(BlkStore) data = blk_mem_new(used->data, used->len, "data");
    g_auto(Scenario) s = { .disk = disk, .oracle = oracle, .log = blk_record_log_new() };
    Replay r = { .disk = disk,
                 .below = { tables, data },
                 .durable = { g_byte_array_new(), used },
                 .pending = g_ptr_array_new(),
                 .options = options,
                 .report = report };

    s.rand = g_rand_new_with_seed(seed);
    s.data = blk_record_new(data, s.log);
    g_byte_array_append(r.durable[TABLES], bytes, (guint) len);
    scenario_open(&s, blk_record_new(tables, s.log), &error);
    g_assert_no_error(error);
    run_ops(&s);
    replay(&r, s.log, oracle);
    g_ptr_array_unref(r.pending);
    for (guint i = 0; i < STORES; i++) {
        g_byte_array_unref(r.durable[i]);
        g_clear_pointer(&r.state[i], g_byte_array_unref);
    }
}

void
sweep_data_file(const CrashOptions *options, CrashReport *report)
{
    for (gsize i = 0; i < G_N_ELEMENTS(disks); i++)
        for (guint round = 0; round < sweep_factor() && !(options->stop_at_first && report->violations);
             round++)
            sweep_disk(&disks[i], g_str_hash(disks[i].name) + round, options, report);
}
