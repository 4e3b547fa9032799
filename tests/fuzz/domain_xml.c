/* A machine's XML: whatever is read is written so that it reads the same, is completed to a fixed point, and
 * is turned into QEMU's arguments or refused; never more. */
#include "model/domain.h"
#include "vm/argv.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char *
complete_and_format(ModelDomain *d, GError **error)
{
    static const ModelDefaults defaults = { .emulator = "/usr/bin/qemu", .arch = "x86_64", .machine = "pc" };

    return model_domain_complete(d, &defaults, error) ? model_domain_format(d, MODEL_FORMAT_INACTIVE) : NULL;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ModelDomain) d = model_domain_parse((const char *) data, len, &error);

    if (!d) {
        g_assert_cmpint(error->code, ==, KHO_ERROR_INVALID);
        g_assert_null(strchr(error->message, '\n'));
        return 0;
    }
    g_autofree char *live = model_domain_format(d, MODEL_FORMAT_LIVE);
    g_autoptr(ModelDomain) copy = model_domain_copy(d);
    g_autofree char *again = model_domain_format(copy, MODEL_FORMAT_LIVE);
    g_assert_cmpstr(again, ==, live);

    g_autofree char *stored = complete_and_format(d, &error);
    if (!stored) {
        g_assert_null(strchr(error->message, '\n'));
        return 0;
    }
    g_autoptr(ModelDomain) read = model_domain_parse(stored, strlen(stored), &error);
    g_assert_no_error(error);
    g_autofree char *stored_again = complete_and_format(read, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(stored_again, ==, stored);

    g_autoptr(GPtrArray) unknown = model_domain_unknown(read);
    for (guint i = 0; i < unknown->len; i++)
        g_assert_null(strchr(g_ptr_array_index(unknown, i), '\n'));
    if (!vm_argv_check(read, &error))
        g_assert_null(strchr(error->message, '\n'));
    return 0;
}
