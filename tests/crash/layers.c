#include "crash/layers.h"

#include "base/num.h"
#include "block/record.h"
#include "crash/guest.h"
#include "crash/scenario.h"
#include "crash/view.h"
#include "image/merge.h"
#include "raw/raw.h"

#include <string.h>

#define V3(bytes, cluster, bits)                                                                             \
    {                                                                                                        \
        .guest_bytes = bytes, .cluster_bytes = cluster, .refcount_bits = bits                                \
    }

const LayersShape layers_shapes[] = {
    { "512 byte clusters", V3(64 * KIB, 512, 16), V3(64 * KIB, 512, 16), 64 * KIB, FALSE },
    { "large over small clusters", V3(96 * KIB, 4096, 16), V3(96 * KIB, 512, 16), 96 * KIB, FALSE },
    { "small over large clusters", V3(64 * KIB, 512, 8), V3(64 * KIB, 4096, 64), 64 * KIB, FALSE },
    { "version 2",
      { .guest_bytes = 64 * KIB, .cluster_bytes = 1024, .version = 2 },
      { .guest_bytes = 64 * KIB, .cluster_bytes = 1024, .version = 2 },
      64 * KIB,
      FALSE },
    { "a shorter base", V3(96 * KIB, 1024, 16), V3(56 * KIB + 512, 1024, 16), 128 * KIB, FALSE },
    { "a shorter base under version 2",
      { .guest_bytes = 96 * KIB, .cluster_bytes = 1024, .version = 2 },
      V3(56 * KIB + 512, 2048, 16),
      80 * KIB,
      FALSE },
    { "a longer base", V3(57 * KIB + 512, 1024, 16), V3(96 * KIB, 2048, 16), 128 * KIB, FALSE },
    { "a raw base", V3(64 * KIB, 1024, 16), { .guest_bytes = 64 * KIB }, 0, FALSE },
    { "a shorter raw base", V3(96 * KIB, 4096, 1), { .guest_bytes = 61 * KIB }, 0, FALSE },
    { "lazy refcounts",
      { .guest_bytes = 64 * KIB, .cluster_bytes = 1024, .lazy_refcounts = TRUE },
      { .guest_bytes = 64 * KIB, .cluster_bytes = 1024, .lazy_refcounts = TRUE },
      48 * KIB,
      FALSE },
    { "nothing below", V3(64 * KIB, 512, 1), V3(64 * KIB, 512, 2), 0, FALSE },
    { "a compressed base", V3(96 * KIB, 1024, 16), V3(96 * KIB, 4096, 16), 0, TRUE },
    { "shared blocks", V3(160 * KIB, 4096, 16), V3(160 * KIB, 4096, 16), 128 * KIB, FALSE, TRUE },
    { "shared blocks of a raw base", V3(96 * KIB, 4096, 16), { .guest_bytes = 96 * KIB }, 0, FALSE, TRUE },
};
const gsize layers_n_shapes = G_N_ELEMENTS(layers_shapes);

static gboolean
is_raw(const LayersShape *shape)
{
    return shape->base.cluster_bytes == 0;
}

static BlkStore *
store_of(GBytes *bytes, const char *label)
{
    return blk_mem_new(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), label);
}

BlkStore *
layers_store(const Layers *layers, GBytes *bytes, const char *label)
{
    BlkStore *store = store_of(bytes, label);

    if (layers->shape->shares)
        blk_mem_share(store);
    return store;
}

/* --- making them --- */

/* Stamped sectors, some of them zeros. */
static GBytes *
raw_layer(guint64 bytes, guint64 stamp, GRand *rand)
{
    guint8 *all = g_malloc0(bytes);

    for (guint64 i = 0; i < bytes / SECTOR; i++)
        if (i / 8 % 4 != 0 && g_rand_double(rand) < 0.9)
            guest_sector_fill(all + i * SECTOR, stamp << 24 | (i + 1));
    return g_bytes_new_take(all, bytes);
}

/* Writes and zeros in and across clusters; holes stay between them. */
static void
scribble(FormatImage *image, guint64 stamp, GRand *rand)
{
    guint64 sectors = image->guest_bytes / SECTOR;
    guint8 bytes[20 * SECTOR];

    for (guint op = 0; op < 10; op++) {
        guint64 first = (guint64) g_rand_int_range(rand, 0, (gint32) sectors);
        guint64 n = (guint64) g_rand_int_range(rand, 1, 20);
        n = MIN(n, sectors - first);
        if (g_rand_double(rand) < 0.3) {
            g_assert_true(guest_zero(image, first * SECTOR, n * SECTOR, NULL));
            continue;
        }
        for (guint64 i = 0; i < n; i++)
            guest_sector_fill(bytes + i * SECTOR, (stamp + op) << 24 | (first + i + 1));
        g_assert_true(guest_write(image, first * SECTOR, bytes, n * SECTOR, NULL));
    }
}

static GBytes *
qcow2_layer(const Qcow2CreateOptions *create, const char *backing_file, guint64 stamp, GRand *rand)
{
    Qcow2CreateOptions options = *create;
    g_autoptr(BlkStore) mem = blk_mem_new(NULL, 0, "layer");
    g_autoptr(GPtrArray) log = blk_record_log_new();
    g_autoptr(GError) error = NULL;

    options.backing_file = backing_file;
    options.backing_format = backing_file ? "raw" : NULL;
    qcow2_create(mem, &options, &error);
    g_assert_no_error(error);
    FormatImage *image = qcow2_format.open(blk_record_new(mem, log), FORMAT_WRITABLE, &error);
    g_assert_no_error(error);
    scribble(image, stamp, rand);
    g_assert_true(image->ops->close(image, NULL));
    return blk_mem_snapshot(mem);
}

static GBytes *
base_layer(const LayersShape *shape, GRand *rand)
{
    if (is_raw(shape))
        return raw_layer(shape->base.guest_bytes, 100, rand);
    if (!shape->compressed)
        return qcow2_layer(&shape->base, shape->below_bytes ? LAYERS_BELOW_NAME : NULL, 100, rand);
    const ScenarioDisk disk = { .name = "compressed", .create = shape->base, .compressed = TRUE };
    Oracle *oracle = NULL;
    GBytes *bytes = scenario_disk_new(&disk, &oracle);
    oracle_free(oracle);
    return bytes;
}

/* --- reading them --- */

static FormatImage *
open_bytes(GBytes *bytes, const FormatOps *ops, GError **error)
{
    BlkStore *store = view_new(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), "layer");
    FormatImage *image = ops->open(store, 0, error);

    if (!image)
        blk_free(store);
    return image;
}

/* One sector through the @n images of @chain, the uppermost first. */
static gboolean
read_sector(FormatImage *const *chain, gsize n, guint64 at, guint8 *sector, GError **error)
{
    memset(sector, 0, SECTOR);
    for (gsize i = 0; i < n && at < chain[i]->guest_bytes; i++) {
        Run run;
        if (!chain[i]->ops->map(chain[i], guest_off(at), SECTOR, &run, error))
            return FALSE;
        g_assert_cmpuint(run.bytes, ==, SECTOR);
        if (run.kind == RUN_DATA)
            return blk_pread_padded(chain[i]->file, run.host.bytes, sector, SECTOR, error);
        if (run.kind == RUN_COMPRESSED)
            return chain[i]->ops->inflate(chain[i], guest_off(at), sector, SECTOR, error);
        if (run.kind == RUN_ZERO)
            return TRUE;
    }
    return TRUE;
}

static void
close_all(FormatImage **chain, gsize n)
{
    for (gsize i = 0; i < n; i++)
        if (chain[i])
            chain[i]->ops->close(chain[i], NULL);
}

/* The layers @bytes (NULL ones are left out), read as one disk of the uppermost one's size. */
typedef struct {
    GBytes *bytes[3];
    const FormatOps *ops[3];
} Stack;

static char *
judge_stack(const Stack *stack, const Layers *layers)
{
    FormatImage *chain[3] = { NULL };
    g_autoptr(GError) error = NULL;
    char *found = NULL;
    gsize n = 0;

    for (gsize i = 0; i < 3 && !error; i++)
        if (stack->bytes[i])
            chain[n++] = open_bytes(stack->bytes[i], stack->ops[i], &error);
    if (!error && chain[0]->guest_bytes != layers->sectors * SECTOR)
        found = g_strdup_printf("the disk is %" G_GUINT64_FORMAT " bytes long", chain[0]->guest_bytes);
    for (guint64 i = 0; i < layers->sectors && !found && !error; i++) {
        guint8 sector[SECTOR];
        guint64 value = 0;
        if (read_sector(chain, n, i * SECTOR, sector, &error)
            && (!guest_sector_value(sector, &value) || value != layers->values[i]))
            found = g_strdup_printf("sector %" G_GUINT64_FORMAT " holds 0x%" G_GINT64_MODIFIER
                                    "x instead of 0x%" G_GINT64_MODIFIER "x",
                                    i, value, layers->values[i]);
    }
    if (error)
        found = g_strdup_printf("read: %s", error->message);
    close_all(chain, n);
    return found;
}

static const FormatOps *
base_ops(const Layers *layers)
{
    return is_raw(layers->shape) ? &raw_format : &qcow2_format;
}

static Stack
stack_of(const Layers *layers, GBytes *overlay, GBytes *base)
{
    return (Stack){ { overlay, base, layers->below }, { &qcow2_format, base_ops(layers), &raw_format } };
}

/* What an image has a mapping of its own for. */
static guint64
held_bytes(FormatImage *image)
{
    guint64 held = 0;
    Run run;

    for (guint64 at = 0; at < image->guest_bytes; at += run.bytes) {
        g_assert_true(image->ops->map(image, guest_off(at), image->guest_bytes - at, &run, NULL));
        held += run.kind == RUN_HOLE ? 0 : run.bytes;
    }
    return held;
}

static void
read_values(Layers *layers)
{
    Stack stack = stack_of(layers, layers->overlay, layers->base);
    FormatImage *chain[3] = { NULL };
    guint8 sector[SECTOR];
    gsize n = 0;

    for (gsize i = 0; i < 3; i++)
        if (stack.bytes[i])
            chain[n++] = open_bytes(stack.bytes[i], stack.ops[i], NULL);
    layers->held_bytes = held_bytes(chain[0]);
    layers->sectors = chain[0]->guest_bytes / SECTOR;
    layers->values = g_new0(guint64, layers->sectors);
    for (guint64 i = 0; i < layers->sectors; i++) {
        g_assert_true(read_sector(chain, n, i * SECTOR, sector, NULL));
        g_assert_true(guest_sector_value(sector, &layers->values[i]));
    }
    close_all(chain, n);
}

Layers *
layers_new(const LayersShape *shape, LayersWay way, guint32 seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    Layers *layers = g_new0(Layers, 1);

    layers->shape = shape;
    layers->way = way;
    layers->below = shape->below_bytes ? raw_layer(shape->below_bytes, 1, rand) : NULL;
    layers->base = base_layer(shape, rand);
    layers->overlay = qcow2_layer(&shape->overlay, LAYERS_BASE_NAME, 200, rand);
    if (way == LAYERS_ONTO)
        layers->other = raw_layer(shape->overlay.guest_bytes / 2 / SECTOR * SECTOR, 44, rand);
    read_values(layers);
    return layers;
}

void
layers_free(Layers *layers)
{
    g_bytes_unref(layers->overlay);
    g_bytes_unref(layers->base);
    g_clear_pointer(&layers->below, g_bytes_unref);
    g_clear_pointer(&layers->other, g_bytes_unref);
    g_free(layers->values);
    g_free(layers);
}

GBytes *
layers_written(const Layers *layers)
{
    return layers->way == LAYERS_DOWN ? layers->base : layers->overlay;
}

/* --- merging them --- */

static KhoImage *
over(BlkStore *store, const FormatOps *ops, FormatFlags flags)
{
    return image_over_store(store, ops, flags, "layer", NULL);
}

static void
put_below(KhoImage *above, KhoImage *below)
{
    above->backing = below;
    for (KhoImage *image = above; image->backing; image = image->backing)
        image->backing->depth = image->depth + 1;
    above->format->backing_bytes = kho_image_size_bytes(below);
}

/* What the overlay lies on, opened for reading. */
static KhoImage *
open_below(const Layers *layers, BlkStore *base, FormatFlags flags)
{
    KhoImage *image = over(base, base_ops(layers), flags);

    g_assert_nonnull(image);
    if (layers->below)
        put_below(image, over(store_of(layers->below, "below"), &raw_format, 0));
    return image;
}

/* The overlay is written, and lies on the base. */
static gboolean
merge_into_overlay(const Layers *layers, BlkStore *store, const KhoJob *job, GError **error)
{
    g_autoptr(KhoImage) overlay = over(store, &qcow2_format, FORMAT_WRITABLE);
    g_autoptr(KhoImage) other = NULL;
    Merge merge = { .overlay = overlay, .workers = 1 };

    g_assert_nonnull(overlay);
    merge.base = open_below(layers, store_of(layers->base, "base"), 0);
    put_below(overlay, merge.base);
    if (layers->way == LAYERS_ONTO) {
        other = over(store_of(layers->other, "other"), &raw_format, 0);
        merge.backing_file = LAYERS_OTHER_NAME;
    } else if (layers->below) {
        merge.backing_file = LAYERS_BELOW_NAME;
    }
    merge.backing_format = merge.backing_file ? "raw" : NULL;
    gboolean done = other ? merge_onto(&merge, other, job, error) : merge_up(&merge, job, error);
    return image_close_after(g_steal_pointer(&overlay), done, error);
}

static gboolean
merge_into_base(const Layers *layers, BlkStore *store, const KhoJob *job, GError **error)
{
    g_autoptr(KhoImage) overlay = over(store_of(layers->overlay, "overlay"), &qcow2_format, 0);
    g_autoptr(KhoImage) base = open_below(layers, store, FORMAT_WRITABLE);
    const Merge merge = { .overlay = overlay, .base = base, .cut_base = TRUE, .workers = 1 };

    gboolean done = merge_down(&merge, job, error);
    return image_close_after(g_steal_pointer(&base), done, error);
}

gboolean
layers_commit(const Layers *layers, BlkStore *overlay_store, BlkStore *base_store, GError **error)
{
    g_autoptr(KhoImage) overlay = over(overlay_store, &qcow2_format, FORMAT_WRITABLE);
    g_autoptr(KhoImage) base = open_below(layers, base_store, FORMAT_WRITABLE);
    const Merge merge = { .overlay = overlay, .base = base, .workers = 1 };

    g_assert_nonnull(overlay);
    gboolean done = merge_away(&merge, NULL, error);
    done = image_close_after(g_steal_pointer(&base), done, error);
    return image_close_after(g_steal_pointer(&overlay), done, error);
}

void
layers_commit_base(Layers *layers)
{
    g_autoptr(BlkStore) mem = layers_store(layers, layers->base, "base");
    g_autoptr(GPtrArray) log = blk_record_log_new();
    g_autoptr(GError) error = NULL;

    layers_commit(layers, store_of(layers->overlay, "overlay"), blk_record_new(mem, log), &error);
    g_assert_no_error(error);
    g_bytes_unref(layers->base);
    layers->base = blk_mem_snapshot(mem);
}

gboolean
layers_merge(const Layers *layers, BlkStore *store, const volatile gint *cancelled, GError **error)
{
    const KhoJob job = { .cancelled = cancelled };

    switch (layers->way) {
    case LAYERS_DOWN: return merge_into_base(layers, store, &job, error);
    case LAYERS_AWAY: return layers_commit(layers, store, layers_store(layers, layers->base, "base"), error);
    case LAYERS_UP:
    case LAYERS_ONTO: return merge_into_overlay(layers, store, &job, error);
    }
    return FALSE;
}

/* --- judging them --- */

/* What the overlay's header names decides what is read below it. */
static char *
judge_up(GBytes *state, const Layers *layers, gboolean durable)
{
    Stack through_base = stack_of(layers, state, layers->base);
    Stack without_base = stack_of(layers, state, NULL);
    Stack on_other = { { state, NULL, layers->other }, { &qcow2_format, NULL, &raw_format } };
    g_autoptr(GError) error = NULL;
    FormatInfo info = { 0 };
    FormatImage *image = open_bytes(state, &qcow2_format, &error);

    if (!image)
        return g_strdup_printf("open: %s", error->message);
    g_assert_true(image->ops->info(image, &info, NULL));
    g_autofree char *name = g_steal_pointer(&info.backing_file);
    format_info_clear(&info);
    image->ops->close(image, NULL);
    if (layers->way == LAYERS_ONTO && g_strcmp0(name, LAYERS_OTHER_NAME) == 0)
        return judge_stack(&on_other, layers);
    if (g_strcmp0(name, LAYERS_BASE_NAME) == 0)
        return durable ? g_strdup("the backing file is the base still") : judge_stack(&through_base, layers);
    if (layers->way == LAYERS_ONTO || g_strcmp0(name, layers->below ? LAYERS_BELOW_NAME : NULL) != 0)
        return g_strdup_printf("the backing file is %s", name);
    return judge_stack(&without_base, layers);
}

static char *
judge_down(GBytes *state, const Layers *layers, gboolean durable)
{
    Stack through_overlay = stack_of(layers, layers->overlay, state);
    Stack base_alone = stack_of(layers, NULL, state);
    char *found = judge_stack(&through_overlay, layers);

    return found || !durable ? found : judge_stack(&base_alone, layers);
}

/* All of the overlay or nothing, and the base shows the same. */
static char *
judge_away(GBytes *state, const Layers *layers, gboolean durable)
{
    Stack through_overlay = stack_of(layers, state, layers->base);
    char *found = judge_stack(&through_overlay, layers);
    g_autoptr(GError) error = NULL;
    FormatImage *image = found ? NULL : open_bytes(state, &qcow2_format, &error);
    guint64 held = image ? held_bytes(image) : 0;

    close_all(&image, 1);
    if (!found && (durable ? held > 0 : held > 0 && held != layers->held_bytes))
        found = g_strdup_printf("the overlay holds %" G_GUINT64_FORMAT " bytes itself", held);
    return found;
}

static char *
judge_bytes(GBytes *state, const Layers *layers, gboolean durable)
{
    gsize len;
    const guint8 *bytes = g_bytes_get_data(state, &len);
    gboolean is_qcow2 = layers->way != LAYERS_DOWN || !is_raw(layers->shape);
    char *found = is_qcow2 ? crash_judge_check(bytes, len) : NULL;

    if (found)
        return found;
    switch (layers->way) {
    case LAYERS_DOWN: return judge_down(state, layers, durable);
    case LAYERS_AWAY: return judge_away(state, layers, durable);
    case LAYERS_UP:
    case LAYERS_ONTO: return judge_up(state, layers, durable);
    }
    return NULL;
}

/* Does the overlay lie on another file already? */
static gboolean
has_gone_over(GBytes *state, const Layers *layers)
{
    FormatInfo info = { 0 };

    if (layers->way != LAYERS_ONTO)
        return FALSE;
    FormatImage *image = open_bytes(state, &qcow2_format, NULL);
    g_assert_true(image && image->ops->info(image, &info, NULL));
    gboolean gone = g_strcmp0(info.backing_file, LAYERS_OTHER_NAME) == 0;
    format_info_clear(&info);
    image->ops->close(image, NULL);
    return gone;
}

/* After a crash the merge is made again; where the overlay has let the base go, that changes nothing. */
static char *
merge_again(GBytes *state, const Layers *layers)
{
    g_autoptr(BlkStore) mem = layers_store(layers, state, "state");
    g_autoptr(GPtrArray) log = blk_record_log_new();
    g_autoptr(GError) error = NULL;

    if (!layers_merge(layers, blk_record_new(mem, log), NULL, &error))
        return g_strdup_printf("merge again: %s", error->message);
    g_autoptr(GBytes) after = blk_mem_snapshot(mem);
    char *found = judge_bytes(after, layers, TRUE);
    if (!found)
        return NULL;
    g_autofree char *cause = found;
    return g_strdup_printf("after another merge: %s", cause);
}

char *
layers_judge(const guint8 *bytes, gsize len, gboolean durable, gboolean carry_on, gpointer data)
{
    const Layers *layers = data;
    g_autoptr(GBytes) state = g_bytes_new_static(bytes, len);
    char *found = judge_bytes(state, layers, durable);

    return found || !carry_on || has_gone_over(state, layers) ? found : merge_again(state, layers);
}
