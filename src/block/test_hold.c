#include "block/fault.h"
#include "block/hold.h"

#include <kho/error.h>
#include <string.h>

#define DISK_BYTES 16384

/* A disk full of 0xaa below a fault store, which outlives the hold. */
typedef struct {
    BlkStore *disk;
} Disk;

static void
set_up(Disk *d)
{
    g_autofree guint8 *old = g_malloc(DISK_BYTES);

    memset(old, 0xaa, DISK_BYTES);
    d->disk = blk_mem_new(old, DISK_BYTES, "disk");
}

static guint8 *
contents(Disk *d)
{
    GBytes *bytes = blk_mem_snapshot(d->disk);
    gsize len;

    return g_bytes_unref_to_data(bytes, &len);
}

/* Writes over the whole disk: 0x11, but for a hole across the head's end. */
static gboolean
fill(BlkStore *store, GError **error)
{
    guint8 bytes[DISK_BYTES];

    memset(bytes, 0x11, sizeof bytes);
    return blk_pwrite(store, 0, bytes, 3000, error)
           && blk_pwrite(store, 3000, bytes, DISK_BYTES - 3000, error)
           && blk_zero(store, 4000, 200, BLK_ZERO_MAY_PUNCH, error) && blk_flush(store, error);
}

static void
assert_filled(const guint8 *bytes)
{
    for (gsize i = 0; i < DISK_BYTES; i++)
        g_assert_cmpuint(bytes[i], ==, i >= 4000 && i < 4200 ? 0 : 0x11);
}

/* Until the end the mark stands, and whoever reads through the hold sees the disk as it shall become. */
static void
test_order(void)
{
    g_autoptr(GError) error = NULL;
    Disk d;

    set_up(&d);
    g_autoptr(BlkStore) through = blk_fault_new(d.disk, FAULT_NONE, 0, FALSE);
    g_autoptr(BlkHold) hold = blk_hold_begin(g_steal_pointer(&through), &error);
    g_assert_no_error(error);
    BlkStore *store = blk_hold_store(hold);
    g_assert_true(fill(store, &error));

    g_autofree guint8 *half = contents(&d);
    g_assert_true(blk_hold_is_mark(half, 512));
    g_autofree guint8 *seen = g_malloc(DISK_BYTES);
    g_assert_true(blk_pread(store, 0, seen, DISK_BYTES, &error));
    assert_filled(seen);
    g_assert_cmpint(blk_fd(store), ==, -1);
    blk_free(store);

    g_assert_true(blk_hold_finish(hold, &error));
    g_autofree guint8 *whole = contents(&d);
    assert_filled(whole);
    g_clear_pointer(&hold, blk_hold_free);
    blk_free(d.disk);
}

/* Whatever write or flush fails, for ever from then on: the disk is what it was, or marked, or whole. */
static void
test_faults(gconstpointer data)
{
    FaultKind kind = (FaultKind) GPOINTER_TO_INT(data);
    gboolean done = FALSE;

    for (guint64 n = 1; !done; n++) {
        g_autoptr(GError) error = NULL;
        Disk d;

        set_up(&d);
        BlkStore *fault = blk_fault_new(d.disk, kind, n, TRUE);
        g_autoptr(BlkHold) hold = blk_hold_begin(fault, &error);
        if (hold) {
            g_autoptr(BlkStore) store = blk_hold_store(hold);
            done = fill(store, &error) && blk_hold_finish(hold, &error);
        }
        g_autofree guint8 *after = contents(&d);
        if (done)
            assert_filled(after);
        else {
            g_assert_error(error, KHO_ERROR, KHO_ERROR_IO);
            /* The flush after the head may be the one that fails: then all is written, if not durable. */
            g_assert_true(after[0] == 0xaa || after[0] == 0x11 || blk_hold_is_mark(after, 512));
            if (after[0] == 0x11)
                assert_filled(after);
        }
        g_clear_pointer(&hold, blk_hold_free);
        blk_free(d.disk);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hold/order", test_order);
    g_test_add_data_func("/hold/write-faults", GINT_TO_POINTER(FAULT_NTH_WRITE), test_faults);
    g_test_add_data_func("/hold/flush-faults", GINT_TO_POINTER(FAULT_NTH_FLUSH), test_faults);
    return g_test_run();
}
