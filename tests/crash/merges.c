/* The sweeps over merges and over changes of the backing file's name. */
#include "base/num.h"
#include "block/record.h"
#include "crash/layers.h"
#include "crash/sweeps.h"
#include "crash/view.h"
#include "qcow2/backing.h"

#include <string.h>

static void
merge_once(const LayersShape *shape, LayersWay way, guint32 seed, const CrashOptions *options,
           CrashReport *report)
{
    g_autoptr(Layers) layers = layers_new(shape, way, seed);
    g_autoptr(GPtrArray) log = blk_record_log_new();
    GBytes *base = layers_written(layers);
    g_autoptr(BlkStore) mem = layers_store(layers, base, shape->name);
    g_autoptr(GError) error = NULL;
    CrashOptions replaying = *options;
    guint64 before = report->violations;

    layers_merge(layers, blk_record_new(mem, log), NULL, &error);
    g_assert_no_error(error);
    replaying.judge = layers_judge;
    replaying.judge_data = layers;
    crash_replay(base, log, NULL, &replaying, report);
    if (report->violations > 0 && before == 0) {
        g_autofree char *first = g_steal_pointer(&report->first);
        report->first = g_strdup_printf("%s, seed %u: %s", shape->name, seed, first);
    }
}

static void
merge_all(LayersWay way, const CrashOptions *options, CrashReport *report)
{
    for (gsize i = 0; i < layers_n_shapes; i++)
        for (guint round = 0; round < 2 * sweep_factor(); round++) {
            if (options->stop_at_first && report->violations > 0)
                return;
            merge_once(&layers_shapes[i], way, g_str_hash(layers_shapes[i].name) + round, options, report);
        }
}

void
sweep_merge_up(const CrashOptions *options, CrashReport *report)
{
    merge_all(LAYERS_UP, options, report);
}

void
sweep_merge_down(const CrashOptions *options, CrashReport *report)
{
    merge_all(LAYERS_DOWN, options, report);
}

void
sweep_merge_onto(const CrashOptions *options, CrashReport *report)
{
    merge_all(LAYERS_ONTO, options, report);
}

/* --- the backing file's name --- */

#define CHANGES   400
#define MARK_TYPE 0x6b686f21u

typedef struct {
    const char *from, *to; /* names; NULL: none */
    const char *from_format, *to_format;
    guint64 mark_bytes;
} Change;

static char *
judge_names(const FormatInfo *info, const Change *change, gboolean durable)
{
    gboolean is_old = g_strcmp0(info->backing_file, change->from) == 0
                      && g_strcmp0(info->backing_format, change->from_format) == 0;
    gboolean is_new = g_strcmp0(info->backing_file, change->to) == 0
                      && g_strcmp0(info->backing_format, change->to_format) == 0;

    if (is_new || (is_old && !durable))
        return NULL;
    return g_strdup_printf("the backing file is %s (%s)", info->backing_file, info->backing_format);
}

/* The extension that nobody knows is as it was. */
static gboolean
mark_stands(FormatImage *image, guint64 mark_bytes)
{
    const Qcow2Image *qcow2 = qcow2_image(image);

    for (guint i = 0; i < qcow2->extensions.places->len; i++) {
        const Qcow2ExtensionPlace *p = &g_array_index(qcow2->extensions.places, Qcow2ExtensionPlace, i);
        if (p->type != MARK_TYPE)
            continue;
        for (guint64 b = 0; b < p->len_bytes; b++)
            if (qcow2->head[p->off_bytes + b] != 0xa5)
                return FALSE;
        return p->len_bytes == mark_bytes;
    }
    return mark_bytes == 0;
}

static char *
judge_change(const guint8 *bytes, gsize len, gboolean durable, gboolean carry_on, gpointer data)
{
    const Change *change = data;
    BlkStore *store = view_new(bytes, len, "state");
    g_autoptr(GError) error = NULL;
    char *found = crash_judge_check(bytes, len);
    FormatInfo info = { 0 };
    FormatImage *image = found ? NULL : qcow2_format.open(store, 0, &error);

    if (!image) {
        blk_free(store);
        return found ? found : g_strdup_printf("open: %s", error->message);
    }
    g_assert_true(image->ops->info(image, &info, NULL));
    found = judge_names(&info, change, durable);
    g_free(info.backing_file);
    g_free(info.backing_format);
    g_ptr_array_unref(info.snapshots);
    if (!found && !mark_stands(image, change->mark_bytes))
        found = g_strdup("an extension that nobody knows is gone");
    image->ops->close(image, NULL);
    return found;
}

/* Puts an extension that nobody knows behind the header's fields: what stood there moves on. */
static void
put_mark(BlkStore *mem, guint64 mark_bytes)
{
    g_autofree guint8 *cluster = NULL, *data = g_malloc(mark_bytes + 1);
    g_autoptr(GByteArray) mark = g_byte_array_new();
    Qcow2Header header;

    g_assert_true(qcow2_header_read(mem, &header, &cluster, NULL));
    memset(data, 0xa5, mark_bytes);
    qcow2_extension_append(mark, MARK_TYPE, data, mark_bytes);
    gsize cluster_bytes = (gsize) 1 << header.cluster_bits, from = header.header_bytes;
    memmove(cluster + from + mark->len, cluster + from, cluster_bytes - from - mark->len);
    memcpy(cluster + from, mark->data, mark->len);
    g_assert_true(blk_pwrite(mem, 0, cluster, cluster_bytes, NULL));
}

/* One change on the image in @mem, replayed. FALSE where the name does not fit. */
static gboolean
change_once(BlkStore *mem, Change *change, const CrashOptions *options, CrashReport *report)
{
    g_autoptr(GPtrArray) log = blk_record_log_new();
    g_autoptr(GBytes) base = blk_mem_snapshot(mem);
    CrashOptions replaying = *options;
    g_autoptr(GError) error = NULL;
    FormatImage *image = qcow2_format.open(blk_record_new(mem, log), FORMAT_WRITABLE, &error);

    g_assert_no_error(error);
    gboolean done = image->ops->set_backing(image, change->to, change->to_format, FALSE, NULL);
    g_assert_true(!done || ((BlkEvent *) log->pdata[log->len - 1])->kind == BLK_EVENT_FLUSH);
    g_assert_true(done || log->len == 0);
    g_assert_true(image->ops->close(image, NULL));
    if (!done)
        return FALSE;
    replaying.judge = judge_change;
    replaying.judge_data = change;
    crash_replay(base, log, NULL, &replaying, report);
    return TRUE;
}

static const struct {
    Qcow2CreateOptions create;
    guint64 mark_bytes;
    gint name_max;
} headers[] = {
    { { .guest_bytes = MIB, .cluster_bytes = 65536 }, 0, 1023 },
    { { .guest_bytes = MIB, .cluster_bytes = 4096 }, 40, 1023 },
    { { .guest_bytes = MIB, .cluster_bytes = 2048, .version = 2 }, 0, 900 },
    { { .guest_bytes = MIB, .cluster_bytes = 1024 }, 13, 400 },
    { { .guest_bytes = 64 * KIB, .cluster_bytes = 512 }, 0, 300 },
};

void
sweep_backing(const CrashOptions *options, CrashReport *report)
{
    static const char *const formats[] = { "raw", "qcow2" };

    for (gsize h = 0; h < G_N_ELEMENTS(headers); h++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed((guint32) h + 1);
        g_autoptr(BlkStore) mem = blk_mem_new(NULL, 0, "header");
        g_autofree char *name = NULL;
        const char *format = NULL;
        guint done = 0;

        g_assert_true(qcow2_create(mem, &headers[h].create, NULL));
        if (headers[h].mark_bytes > 0)
            put_mark(mem, headers[h].mark_bytes);
        for (guint i = 0; i < CHANGES * sweep_factor(); i++) {
            gint bytes = g_rand_int_range(rand, 1, headers[h].name_max);
            bytes = g_rand_boolean(rand) ? MIN(bytes, 30) : bytes;
            g_autofree char *to = bytes % 7 == 0 ? NULL : g_strnfill((gsize) bytes, (char) ('a' + i % 26));
            const char *to_format = to ? formats[g_rand_int_range(rand, 0, 2)] : NULL;
            Change change = { name, to, format, to_format, headers[h].mark_bytes };

            if (options->stop_at_first && report->violations > 0)
                return;
            if (!change_once(mem, &change, options, report))
                continue;
            done++;
            g_free(name);
            name = g_steal_pointer(&to);
            format = to_format;
        }
        g_assert_cmpuint(done, >, CHANGES / 2);
    }
}
