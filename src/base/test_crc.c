/* CRC-32 against its published check value, whole and in pieces. */
#include "base/crc.h"

static void
test_check_value(void)
{
    g_assert_cmphex(crc32_add(0, "123456789", 9), ==, 0xcbf43926);
    g_assert_cmphex(crc32_add(crc32_add(0, "1234", 4), "56789", 5), ==, 0xcbf43926);
    g_assert_cmphex(crc32_add(0x1234, "", 0), ==, 0x1234);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/crc/check-value", test_check_value);
    return g_test_run();
}
