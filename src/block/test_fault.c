/* The faulty store fails exactly what it was told to, and the recording store logs exactly what happened. */
#include "block/fault.h"
#include "block/record.h"

#include <kho/error.h>

#include <string.h>

static void
assert_holds(BlkStore *mem, const char *want, gsize len)
{
    g_autoptr(GBytes) now = blk_mem_snapshot(mem);

    g_assert_cmpmem(g_bytes_get_data(now, NULL), g_bytes_get_size(now), want, len);
}

static void
test_nth_write(void)
{
    g_autoptr(BlkStore) mem = blk_mem_new("", 0, "mem");
    g_autoptr(BlkStore) fault = blk_fault_new(mem, FAULT_NTH_WRITE, 2, FALSE);
    g_autoptr(GError) error = NULL;

    g_assert_true(blk_pwrite(fault, 0, "a", 1, NULL));
    g_assert_false(blk_pwrite(fault, 1, "b", 1, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_IO);
    g_assert_true(blk_pwrite(fault, 2, "c", 1, NULL)); /* the fault has passed */
    g_assert_true(blk_flush(fault, NULL));
    assert_holds(mem, "a\0c", 3);
    FaultCounts counts = blk_fault_counts(fault);
    g_assert_cmpuint(counts.writes, ==, 3);
    g_assert_cmpuint(counts.flushes, ==, 1);
    g_assert_cmpuint(counts.faults, ==, 1);
}

static void
test_for_ever(void)
{
    g_autoptr(BlkStore) mem = blk_mem_new("", 0, "mem");
    g_autoptr(BlkStore) fault = blk_fault_new(mem, FAULT_NTH_WRITE, 2, TRUE);

    g_assert_true(blk_zero(fault, 0, 1, BLK_ZERO_MAY_PUNCH, NULL));
    g_assert_false(blk_pwrite(fault, 0, "b", 1, NULL));
    g_assert_false(blk_truncate(fault, 9, NULL));
    g_assert_false(blk_zero(fault, 0, 3, BLK_ZERO_RESERVE, NULL));
    assert_holds(mem, "\0", 1);
}

static void
test_torn(void)
{
    g_autoptr(BlkStore) mem = blk_mem_new("", 0, "mem");
    g_autoptr(BlkStore) fault = blk_fault_new(mem, FAULT_TORN, 1, FALSE);
    g_autofree char *bytes = g_strnfill(2048, 'x');

    g_assert_false(blk_pwrite(fault, 0, bytes, 2048, NULL));
    assert_holds(mem, bytes, 1024);
}

static void
test_nth_flush(void)
{
    g_autoptr(BlkStore) mem = blk_mem_new("", 0, "mem");
    g_autoptr(BlkStore) fault = blk_fault_new(mem, FAULT_NTH_FLUSH, 2, FALSE);
    g_autoptr(GError) error = NULL;

    g_assert_true(blk_flush(fault, NULL));
    g_assert_false(blk_flush(fault, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_IO);
    g_assert_true(blk_flush(fault, NULL));
}

static void
test_no_space(void)
{
    g_autoptr(BlkStore) mem = blk_mem_new("abcdef", 6, "mem");
    g_autoptr(BlkStore) fault = blk_fault_new(mem, FAULT_NO_SPACE, 4, FALSE);
    g_autoptr(GError) error = NULL;

    g_assert_true(blk_pwrite(fault, 5, "F", 1, NULL)); /* there already: takes no space */
    g_assert_false(blk_pwrite(fault, 6, "g", 1, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_NO_SPACE);
    g_assert_false(blk_truncate(fault, 7, NULL));
    g_assert_true(blk_truncate(fault, 3, NULL));
    g_assert_true(blk_pwrite(fault, 3, "D", 1, NULL));
    g_assert_false(blk_zero(fault, 4, 1, BLK_ZERO_RESERVE, NULL));
    assert_holds(mem, "abcD", 4);
}

static void
test_record(void)
{
    g_autoptr(BlkStore) mem = blk_mem_new("", 0, "mem");
    g_autoptr(BlkStore) fault = blk_fault_new(mem, FAULT_NTH_WRITE, 2, FALSE);
    g_autoptr(GPtrArray) log = blk_record_log_new();
    BlkStore *record = blk_record_new(fault, log);
    char buf[3];

    g_assert_true(blk_pwrite(record, 1, "ab", 2, NULL));
    g_assert_false(blk_pwrite(record, 0, "no", 2, NULL)); /* what failed is not in the log */
    g_assert_true(blk_flush(record, NULL));
    g_assert_true(blk_zero(record, 0, 3, BLK_ZERO_RESERVE, NULL));
    g_assert_true(blk_truncate(record, 7, NULL));
    g_assert_true(blk_pread(record, 0, buf, 3, NULL));
    blk_free(record); /* the log outlives its store */

    static const BlkEvent want[] = {
        { BLK_EVENT_WRITE, 1, 2, NULL },
        { BLK_EVENT_FLUSH, 0, 0, NULL },
        { BLK_EVENT_ZERO, 0, 3, NULL },
        { BLK_EVENT_TRUNCATE, 7, 0, NULL },
    };
    g_assert_cmpuint(log->len, ==, G_N_ELEMENTS(want));
    for (guint i = 0; i < log->len; i++) {
        const BlkEvent *event = log->pdata[i];
        g_assert_cmpint(event->kind, ==, want[i].kind);
        g_assert_cmpuint(event->off, ==, want[i].off);
        g_assert_cmpuint(event->len, ==, want[i].len);
    }
    g_assert_cmpmem(((BlkEvent *) log->pdata[0])->bytes, 2, "ab", 2);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fault/nth-write", test_nth_write);
    g_test_add_func("/fault/for-ever", test_for_ever);
    g_test_add_func("/fault/torn", test_torn);
    g_test_add_func("/fault/nth-flush", test_nth_flush);
    g_test_add_func("/fault/no-space", test_no_space);
    g_test_add_func("/record/log", test_record);
    return g_test_run();
}
