/* Random operations against a model of plain bytes, for every cluster size and refcount width: what was
 * written is read, snapshots hold, and no cluster is lost, leaked or named twice. G_TEST seeds replay a run:
 * --seed. */
#include "qcow2/test_io.h"

#include <stdlib.h>

#define PIECE (64 * KIB)

typedef struct {
    guint32 cluster_bytes;
    guint version, refcount_bits;
    gboolean lazy, extended;
} Kind;

static const Kind kinds[] = {
    { 512, 3, 1, FALSE },         { 512, 3, 64, FALSE },        { 512, 2, 16, FALSE },
    { 512, 3, 16, TRUE },         { 1024, 3, 2, FALSE },        { 4096, 3, 8, FALSE },
    { 4096, 3, 32, TRUE },        { 65536, 3, 16, FALSE },      { 65536, 2, 16, FALSE },
    { 65536, 3, 4, FALSE },       { 2097152, 3, 16, FALSE },    { 16384, 3, 16, FALSE, TRUE },
    { 32768, 3, 1, FALSE, TRUE }, { 65536, 3, 16, TRUE, TRUE },
};

typedef struct {
    guint8 *bytes;
    guint64 len;
} Saved;

typedef struct {
    const Kind *kind;
    BlkStore *store;
    FormatImage *image;
    guint8 *bytes; /* what the guest should see; max_bytes of them, zeros past the disk's end */
    guint64 max_bytes;
    GArray *snapshots; /* of Saved */
} Model;

static guint64
pick(guint64 below)
{
    return below == 0 ? 0
                      : ((guint64) g_test_rand_int_range(0, G_MAXINT32) << 16
                         | (guint64) g_test_rand_int_range(0, 65536))
                            % below;
}

static void
compare(FormatImage *image, const guint8 *bytes)
{
    guint8 seen[PIECE];
    g_autoptr(GError) error = NULL;

    for (guint64 at = 0; at < image->guest_bytes; at += PIECE) {
        gsize len = MIN(PIECE, image->guest_bytes - at), i = 0;
        test_read(image, at, seen, len, &error);
        g_assert_no_error(error);
        if (memcmp(seen, bytes + at, len) == 0)
            continue;
        while (seen[i] == bytes[at + i])
            i++;
        g_test_message("byte %" G_GUINT64_FORMAT " is %d and not %d", at + i, seen[i], bytes[at + i]);
        g_assert_not_reached();
    }
}

static void
do_write(Model *m)
{
    guint64 at = pick(m->image->guest_bytes),
            len = 1 + pick(MIN(m->image->guest_bytes - at, m->max_bytes / 6));
    g_autoptr(GError) error = NULL;
    guint8 value = (guint8) g_test_rand_int_range(1, 256);

    for (guint64 i = 0; i < len; i++)
        m->bytes[at + i] = (guint8) (value + i / 512);
    test_write(m->image, at, m->bytes + at, len, &error);
    g_assert_no_error(error);
}

static void
do_zero(Model *m)
{
    guint64 at = pick(m->image->guest_bytes), len = 1 + pick(m->image->guest_bytes - at);
    g_autoptr(GError) error = NULL;

    memset(m->bytes + at, 0, len);
    test_zero(m->image, at, len, &error);
    g_assert_no_error(error);
}

static void
do_abandon(Model *m)
{
    guint64 at = pick(m->image->guest_bytes);
    Place place;

    g_assert_true(m->image->ops->prepare(m->image, guest_off(at), m->image->guest_bytes - at, &place, NULL));
    m->image->ops->abandon(m->image, &place);
}

static void
do_flush(Model *m)
{
    g_autoptr(GError) error = NULL;

    m->image->ops->flush(m->image, &error);
    g_assert_no_error(error);
    if (!m->kind->lazy)
        test_clean(m->store, 0);
}

static void
do_reopen(Model *m)
{
    g_autoptr(GError) error = NULL;

    m->image->ops->flush(m->image, &error);
    g_assert_no_error(error);
    /* A lazy image that was not closed is rebuilt by its next writer. */
    BlkStore *crashed = test_copy(m->store);
    m->image->ops->close(m->image, &error);
    g_assert_no_error(error);
    test_clean(m->store, 0);
    if (g_test_rand_bit()) {
        blk_free(m->store);
        m->store = g_steal_pointer(&crashed);
    }
    if (crashed)
        blk_free(crashed);
    m->image = test_open(m->store);
    compare(m->image, m->bytes);
    do_write(m); /* the first write rebuilds; without one the image stays dirty */
}

static void
do_resize(Model *m)
{
    guint64 old = m->image->guest_bytes, to = m->max_bytes / 2 + pick(m->max_bytes / 2);
    g_autoptr(GError) error = NULL;

    if (m->kind->version == 2 && m->snapshots->len > 0) {
        g_assert_false(m->image->ops->resize(m->image, to, TRUE, NULL, &error));
        g_assert_error(error, KHO_ERROR, KHO_ERROR_UNSUPPORTED);
        return;
    }
    m->image->ops->resize(m->image, to, TRUE, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(m->image->guest_bytes, ==, to);
    if (to < old)
        memset(m->bytes + to, 0, old - to);
}

static void
do_snapshot(Model *m)
{
    g_autoptr(GError) error = NULL;
    guint64 most = m->kind->refcount_bits >= 4 ? 3 : 1; /* reverting takes one count more for a moment */

    if (m->kind->refcount_bits == 1) {
        g_assert_false(qcow2_snapshot_create(m->image, &(FormatSnapshotNew){ "one bit", 1, 0, -1 }, &error));
        g_assert_error(error, KHO_ERROR, KHO_ERROR_UNSUPPORTED);
        return;
    }
    if (m->snapshots->len >= most) {
        guint index = (guint) pick(m->snapshots->len);
        qcow2_snapshot_delete(m->image, index, &error);
        g_assert_no_error(error);
        g_array_remove_index(m->snapshots, index);
        return;
    }
    qcow2_snapshot_create(m->image, &(FormatSnapshotNew){ "name", 1, 0, -1 }, &error);
    g_assert_no_error(error);
    Saved saved = { g_memdup2(m->bytes, m->max_bytes), m->image->guest_bytes };
    g_array_append_val(m->snapshots, saved);
}

static void
do_revert(Model *m)
{
    g_autoptr(GError) error = NULL;

    if (m->snapshots->len == 0)
        return;
    guint index = (guint) pick(m->snapshots->len);
    const Saved *saved = &g_array_index(m->snapshots, Saved, index);
    qcow2_snapshot_revert(m->image, index, &error);
    g_assert_no_error(error);
    memcpy(m->bytes, saved->bytes, m->max_bytes);
    g_assert_cmpuint(m->image->guest_bytes, ==, saved->len);
}

static void
look_into_snapshots(Model *m)
{
    for (guint i = 0; i < m->snapshots->len; i++) {
        const Saved *saved = &g_array_index(m->snapshots, Saved, i);
        g_autoptr(GError) error = NULL;
        FormatImage *view = qcow2_snapshot_open_view(m->image, i, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(view->guest_bytes, ==, saved->len);
        compare(view, saved->bytes);
        view->ops->close(view, NULL);
    }
}

static void
free_saved(gpointer saved)
{
    g_free(((Saved *) saved)->bytes);
}

static void
test_kind(gconstpointer data)
{
    static void (*const operations[])(Model *) = {
        do_write,   do_write, do_write,  do_write,    do_zero,   do_zero,
        do_abandon, do_flush, do_reopen, do_snapshot, do_revert, do_resize,
    };
    Model m = { .kind = data,
                .max_bytes = MIN((guint64) ((const Kind *) data)->cluster_bytes * 200, 8 * MIB) };
    const Qcow2CreateOptions options = {
        .guest_bytes = m.max_bytes,
        .cluster_bytes = m.kind->cluster_bytes,
        .version = m.kind->version,
        .refcount_bits = m.kind->refcount_bits,
        .lazy_refcounts = m.kind->lazy,
        .extended_l2 = m.kind->extended,
    };
    guint rounds = g_getenv("KHO_SOAK") ? 600 : 120;

    m.store = test_create(&options);
    m.image = test_open(m.store);
    m.bytes = g_malloc0(m.max_bytes);
    m.snapshots = g_array_new(FALSE, FALSE, sizeof(Saved));
    g_array_set_clear_func(m.snapshots, free_saved);
    for (guint i = 0; i < rounds; i++) {
        operations[pick(G_N_ELEMENTS(operations))](&m);
        if (i % 16 == 0) {
            compare(m.image, m.bytes);
            look_into_snapshots(&m);
        }
    }
    compare(m.image, m.bytes);
    look_into_snapshots(&m);
    g_autoptr(GError) error = NULL;
    m.image->ops->close(m.image, &error);
    g_assert_no_error(error);
    test_clean(m.store, 0);
    blk_free(m.store);
    g_array_unref(m.snapshots);
    g_free(m.bytes);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *path = g_strdup_printf(
            "/qcow2/model/v%u-cluster-%u-refcount-%u%s%s", kinds[i].version, kinds[i].cluster_bytes,
            kinds[i].refcount_bits, kinds[i].lazy ? "-lazy" : "", kinds[i].extended ? "-extended" : "");
        g_test_add_data_func(path, &kinds[i], test_kind);
    }
    return g_test_run();
}
