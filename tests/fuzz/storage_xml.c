/* The XML of pools and volumes: whatever is read is written so that it reads and is written the same. */
#include "model/pool.h"
#include "model/volume.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
try_pool(const char *text, gsize len)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ModelPool) pool = model_pool_parse(text, len, &error);

    if (!pool || !model_pool_complete(pool, &error)) {
        g_assert_cmpint(error->code, ==, KHO_ERROR_INVALID);
        return;
    }
    g_autofree char *first = model_pool_format(pool);
    g_autoptr(ModelPool) read = model_pool_parse(first, strlen(first), &error);
    g_assert_no_error(error);
    g_assert_true(model_pool_complete(read, &error));
    g_autofree char *second = model_pool_format(read);
    g_assert_cmpstr(first, ==, second);
}

static void
try_volume(const char *text, gsize len)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ModelVolume) volume = model_volume_parse(text, len, &error);

    if (!volume) {
        g_assert_cmpint(error->code, ==, KHO_ERROR_INVALID);
        return;
    }
    g_autofree char *first = model_volume_format(volume);
    g_autoptr(ModelVolume) read = model_volume_parse(first, strlen(first), &error);
    g_assert_no_error(error);
    g_autofree char *second = model_volume_format(read);
    g_assert_cmpstr(first, ==, second);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    try_pool((const char *) data, len);
    try_volume((const char *) data, len);
    return 0;
}
