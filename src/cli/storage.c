/* What pool and vol verbs share. */
#include "cli/storage.h"

char *
storage_size(guint64 bytes, gboolean as_bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    gdouble value = (gdouble) bytes;
    gsize unit = 0;

    if (as_bytes)
        return g_strdup_printf("%" G_GUINT64_FORMAT, bytes);
    while (value >= 1024 && unit + 1 < G_N_ELEMENTS(units)) {
        value /= 1024;
        unit++;
    }
    return g_strdup_printf("%.2f %s", value, units[unit]);
}
