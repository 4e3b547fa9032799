/* The dispatcher's contract, with implementations that break theirs. */
#include "block/blk.h"

#include "base/error.h"
#include "base/num.h"

#include <string.h>

/* A store that answers as it is told. */
typedef struct {
    BlkStore store;
    gboolean ok, set_error, reads_more;
    guint64 size, extent_bytes;
    guint calls;
} OddStore;

static gboolean
odd_answer(BlkStore *store, GError **error)
{
    OddStore *odd = (OddStore *) store;

    odd->calls++;
    if (odd->set_error)
        fail(error, KHO_ERROR_IO, "told so");
    return odd->ok;
}

static gboolean
odd_pread(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    guint64 size = ((OddStore *) store)->size;

    *got = ((OddStore *) store)->reads_more ? len + 1 : off < size ? MIN(len, size - off) : 0;
    return odd_answer(store, error);
}

static gboolean
odd_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error)
{
    return odd_answer(store, error);
}

static gboolean
odd_truncate(BlkStore *store, guint64 bytes, GError **error)
{
    return odd_answer(store, error);
}

static gboolean
odd_flush(BlkStore *store, GError **error)
{
    return odd_answer(store, error);
}

static gboolean
odd_size(BlkStore *store, guint64 *bytes, GError **error)
{
    *bytes = ((OddStore *) store)->size;
    return TRUE;
}

static gboolean
odd_extent(BlkStore *store, guint64 off, guint64 max_bytes, BlkExtent *extent, GError **error)
{
    *extent = (BlkExtent){ BLK_EXTENT_HOLE, ((OddStore *) store)->extent_bytes };
    return TRUE;
}

static void
odd_free(BlkStore *store)
{
    g_free(store);
}

static const BlkOps odd_ops = {
    .name = "odd",
    .pread = odd_pread,
    .pwrite = odd_pwrite,
    .truncate = odd_truncate,
    .flush = odd_flush,
    .size = odd_size,
    .extent = odd_extent,
    .free = odd_free,
};

static OddStore *
odd_new(gboolean ok, gboolean set_error)
{
    OddStore *odd = g_new0(OddStore, 1);

    odd->store = (BlkStore){ .ops = &odd_ops, .label = g_strdup("odd"), .writable = TRUE };
    odd->ok = ok;
    odd->set_error = set_error;
    odd->size = 4096;
    return odd;
}

/* Success with an error set, and failure without one, are both turned into an INTERNAL error. */
static void
test_answers(void)
{
    for (guint i = 0; i < 4; i++) {
        gboolean ok = (i & 1) != 0, set_error = (i & 2) != 0;
        g_autoptr(BlkStore) store = &odd_new(ok, set_error)->store;
        g_autoptr(GError) error = NULL;
        char buf[16];

        gboolean answer = blk_pread(store, 0, buf, sizeof buf, &error);
        g_assert_true(answer == (ok && !set_error));
        if (!answer)
            g_assert_error(error, KHO_ERROR, (ok == set_error ? KHO_ERROR_INTERNAL : KHO_ERROR_IO));
        g_clear_error(&error);
        g_assert_true(blk_pwrite(store, 0, buf, sizeof buf, NULL) == answer);
        g_assert_true(blk_flush(store, NULL) == answer);
        g_assert_true(blk_truncate(store, 1, NULL) == answer);
        g_assert_true(blk_zero(store, 0, 1, BLK_ZERO_MAY_PUNCH, NULL) == answer);
        g_assert_cmpuint(((OddStore *) store)->calls, ==, 5);
    }
}

static void
test_bounds(void)
{
    static const struct {
        guint64 off;
        gsize len;
        gint code;
    } rows[] = {
        { 4096, 1, KHO_ERROR_CORRUPT },           { 4095, 2, KHO_ERROR_CORRUPT },
        { NUM_OFFSET_MAX, 1, KHO_ERROR_INVALID }, { NUM_OFFSET_MAX + 1, 0, KHO_ERROR_INVALID },
        { G_MAXUINT64, 2, KHO_ERROR_INVALID },    { 1, G_MAXSIZE, KHO_ERROR_INVALID },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        OddStore *odd = odd_new(TRUE, FALSE);
        g_autoptr(BlkStore) store = &odd->store;
        g_autoptr(GError) error = NULL;
        char buf[1];

        g_assert_false(blk_pread(store, rows[i].off, buf, rows[i].len, &error));
        g_assert_error(error, KHO_ERROR, rows[i].code);
        if (rows[i].code == KHO_ERROR_INVALID) {
            g_assert_false(blk_pwrite(store, rows[i].off, buf, rows[i].len, NULL));
            g_assert_false(blk_zero(store, rows[i].off, rows[i].len, BLK_ZERO_RESERVE, NULL));
        }
        g_assert_cmpuint(odd->calls, ==, rows[i].code == KHO_ERROR_CORRUPT);
    }
}

/* More than was asked for: beyond the caller's buffer, if it were true. */
static void
test_read_answers(void)
{
    OddStore *odd = odd_new(TRUE, FALSE);
    g_autoptr(BlkStore) store = &odd->store;
    g_autoptr(GError) error = NULL;
    gsize got = 77;
    char buf[1];

    odd->reads_more = TRUE;
    g_assert_false(blk_pread_upto(store, 0, buf, 1, &got, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INTERNAL);
    g_assert_cmpuint(got, ==, 77);
    g_assert_false(blk_pread_padded(store, 0, buf, 1, NULL));
}

static void
test_extent_answers(void)
{
    static const struct {
        guint64 answer;
        gboolean ok;
    } rows[] = { { 0, FALSE }, { 1, TRUE }, { 96, TRUE }, { 97, FALSE }, { G_MAXUINT64, FALSE } };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        OddStore *odd = odd_new(TRUE, FALSE);
        g_autoptr(BlkStore) store = &odd->store;
        g_autoptr(GError) error = NULL;
        BlkExtent extent = { BLK_EXTENT_DATA, 77 };

        odd->extent_bytes = rows[i].answer;
        g_assert_true(blk_extent(store, 4000, 1000, &extent, &error) == rows[i].ok);
        g_assert_cmpuint(extent.bytes, ==, rows[i].ok ? rows[i].answer : 77);
        if (!rows[i].ok)
            g_assert_error(error, KHO_ERROR, KHO_ERROR_INTERNAL);
        g_assert_false(blk_extent(store, 4096, 1, &extent, NULL));
        g_assert_false(blk_extent(store, 0, 0, &extent, NULL));
    }
}

static void
test_read_only(void)
{
    OddStore *odd = odd_new(TRUE, FALSE);
    g_autoptr(BlkStore) store = &odd->store;
    g_autoptr(GError) error = NULL;

    store->writable = FALSE;
    g_assert_false(blk_pwrite(store, 0, "x", 1, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_DENIED);
    g_assert_false(blk_zero(store, 0, 1, BLK_ZERO_MAY_PUNCH, NULL));
    g_assert_false(blk_truncate(store, 0, NULL));
    g_assert_true(blk_flush(store, NULL));
    g_assert_cmpuint(odd->calls, ==, 0);
}

static void
test_size_bounded(void)
{
    OddStore *odd = odd_new(TRUE, FALSE);
    g_autoptr(BlkStore) store = &odd->store;
    g_autoptr(GError) error = NULL;
    guint64 size = 77;

    odd->size = NUM_OFFSET_MAX + 1;
    g_assert_false(blk_size(store, &size, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    g_assert_cmpuint(size, ==, 77);
    g_assert_cmpint(blk_fd(store), ==, -1);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/blk/answers", test_answers);
    g_test_add_func("/blk/bounds", test_bounds);
    g_test_add_func("/blk/read-answers", test_read_answers);
    g_test_add_func("/blk/extent-answers", test_extent_answers);
    g_test_add_func("/blk/read-only", test_read_only);
    g_test_add_func("/blk/size-bounded", test_size_bounded);
    return g_test_run();
}
