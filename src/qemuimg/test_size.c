/* Rules held: a size is read as QEMU reads it; what is no size, or no number of bytes, is told apart from
 * what is too large. */
#include "base/num.h"
#include "qemuimg/size.h"

static const struct {
    const char *text;
    QimgSizeFault fault;
    guint64 bytes;
} rows[] = {
    { "0", QIMG_SIZE_GOOD, 0 },
    { "512", QIMG_SIZE_GOOD, 512 },
    { "64M", QIMG_SIZE_GOOD, 64 * MIB },
    { "1k", QIMG_SIZE_GOOD, KIB },
    { "1T", QIMG_SIZE_GOOD, TIB },
    { "1b", QIMG_SIZE_GOOD, 1 },
    { "1.5M", QIMG_SIZE_GOOD, MIB + MIB / 2 },
    { "1.", QIMG_SIZE_GOOD, 1 },
    { "0x100", QIMG_SIZE_GOOD, 256 },
    { " 1M", QIMG_SIZE_GOOD, MIB },
    { "18446744073709551615", QIMG_SIZE_GOOD, G_MAXUINT64 },
    { "18446744073709551616", QIMG_SIZE_TOO_LARGE, 0 },
    { "1000E", QIMG_SIZE_TOO_LARGE, 0 },
    { "", QIMG_SIZE_MALFORMED, 0 },
    { "M", QIMG_SIZE_MALFORMED, 0 },
    { ".5M", QIMG_SIZE_MALFORMED, 0 },
    { "1.5", QIMG_SIZE_MALFORMED, 0 },
    { "1.5b", QIMG_SIZE_MALFORMED, 0 },
    { "1Mb", QIMG_SIZE_MALFORMED, 0 },
    { "1e3", QIMG_SIZE_MALFORMED, 0 },
    { "1x", QIMG_SIZE_MALFORMED, 0 },
    { "-1", QIMG_SIZE_MALFORMED, 0 },
    { "0x", QIMG_SIZE_MALFORMED, 0 },
    { "1 M", QIMG_SIZE_MALFORMED, 0 },
};

static void
test_sizes(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        guint64 bytes = 0;

        g_test_message("'%s'", rows[i].text);
        g_assert_cmpint(qimg_size_parse(rows[i].text, &bytes), ==, rows[i].fault);
        if (rows[i].fault == QIMG_SIZE_GOOD)
            g_assert_cmpuint(bytes, ==, rows[i].bytes);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qemuimg/size", test_sizes);
    return g_test_run();
}
