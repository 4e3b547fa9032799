/* Sizes as people write them, checked arithmetic, big-endian loads and stores. */
#include "base/num.h"

#include "base/error.h"

#include <kho/error.h>

#include <string.h>

static void
test_sizes(void)
{
    static const struct {
        const char *text;
        guint64 unit, bytes;
    } rows[] = {
        { "0", 1, 0 },
        { "512", 1, 512 },
        { "512", KIB, 512 * KIB },
        { "512", MIB, 512 * MIB },
        { "512b", MIB, 512 },
        { "10G", 1, 10 * GIB },
        { "10g", 1, 10 * GIB },
        { "1.5G", 1, 3 * GIB / 2 },
        { "0.25KiB", 1, 256 },
        { "7MB", 1, 7000000 },
        { "7MiB", 1, 7 * MIB },
        { "2TB", 1, 2000000000000 },
        { "1PB", 1, 1000000000000000 },
        { "7E", 1, 7 * (TIB << 20) },
        { "9223372036854775807", 1, NUM_OFFSET_MAX },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        guint64 bytes = 77;
        g_assert_true(num_parse_size(rows[i].text, rows[i].unit, &bytes, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(bytes, ==, rows[i].bytes);
    }
}

static void
test_sizes_refused(void)
{
    static const char *const rows[] = {
        "",
        "G",
        "-1",
        "+1",
        " 1",
        "1 G",
        "1.",
        "1.G",
        "1Q",
        "1GG",
        "0x10",
        "1e3",
        "nan",
        "8E",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999999",
        "16777216T",
        "1.5.5G",
        "1\n",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        guint64 bytes = 77;
        g_assert_false(num_parse_size(rows[i], 1, &bytes, &error));
        g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
        g_autofree char *shown = error_one_line(rows[i]);
        g_assert_nonnull(strstr(error->message, shown));
        g_assert_cmpuint(bytes, ==, 77);
    }
}

static void
test_format(void)
{
    static const struct {
        guint64 bytes;
        const char *text;
    } rows[] = {
        { 0, "0 B" },
        { 999, "999 B" },
        { 1000, "0.977 KiB" },
        { 1024, "1 KiB" },
        { 196 * KIB, "196 KiB" },
        { 3 * GIB / 2, "1.5 GiB" },
        { 10 * GIB, "10 GiB" },
        { NUM_OFFSET_MAX, "8 EiB" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = num_format_size(rows[i].bytes);
        g_assert_cmpstr(text, ==, rows[i].text);
    }
}

static void
test_uint(void)
{
    g_autoptr(GError) error = NULL;
    guint64 value = 77;

    g_assert_true(num_parse_uint("64", 64, "queue", &value, &error));
    g_assert_cmpuint(value, ==, 64);
    g_assert_false(num_parse_uint("65", 64, "queue", &value, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, "queue '65'"));
    g_assert_false(num_parse_uint("-1", 64, "queue", &value, NULL));
    g_assert_false(num_parse_uint("1x", 64, "queue", &value, NULL));
    g_assert_false(num_parse_uint("", 64, "queue", &value, NULL));
    g_assert_cmpuint(value, ==, 64);
}

static void
test_arithmetic(void)
{
    guint64 out = 0;

    g_assert_true(num_add(G_MAXUINT64 - 1, 1, &out));
    g_assert_cmpuint(out, ==, G_MAXUINT64);
    g_assert_false(num_add(G_MAXUINT64, 1, &out));
    g_assert_true(num_mul(GIB, GIB, &out));
    g_assert_false(num_mul(GIB << 2, GIB << 2, &out));
    g_assert_cmpuint(num_align_up(1, 512), ==, 512);
    g_assert_cmpuint(num_align_up(512, 512), ==, 512);
    g_assert_cmpuint(num_align_down(1023, 512), ==, 512);
    g_assert_cmpuint(num_div_up(0, 8), ==, 0);
    g_assert_cmpuint(num_div_up(9, 8), ==, 2);
    g_assert_true(num_is_pow2(1));
    g_assert_false(num_is_pow2(0));
    g_assert_false(num_is_pow2(6));
}

static void
test_big_endian(void)
{
    guint8 bytes[9] = { 0 };

    be64_store(bytes + 1,
               G_GUINT64_CONSTANT(0x0102030405060708)); /* odd address: nothing may rely on alignment */
    for (guint i = 1; i < sizeof bytes; i++)
        g_assert_cmpuint(bytes[i], ==, i);
    g_assert_cmphex(be64_load(bytes + 1), ==, G_GUINT64_CONSTANT(0x0102030405060708));
    g_assert_cmphex(be32_load(bytes + 1), ==, 0x01020304);
    g_assert_cmphex(be16_load(bytes + 1), ==, 0x0102);
    be32_store(bytes + 1, 0xfffefdfc);
    be16_store(bytes + 5, 0xfbfa);
    g_assert_cmphex(be64_load(bytes + 1), ==, G_GUINT64_CONSTANT(0xfffefdfcfbfa0708));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/num/sizes", test_sizes);
    g_test_add_func("/num/sizes-refused", test_sizes_refused);
    g_test_add_func("/num/format", test_format);
    g_test_add_func("/num/uint", test_uint);
    g_test_add_func("/num/arithmetic", test_arithmetic);
    g_test_add_func("/num/big-endian", test_big_endian);
    return g_test_run();
}
