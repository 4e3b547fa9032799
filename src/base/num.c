#include "base/num.h"

#include "base/error.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *word;
    guint64 bytes;
} units[] = {
    { "b", 1 },
    { "byte", 1 },
    { "bytes", 1 },
    { "B", 1 },
    { "KB", 1000 },
    { "k", KIB },
    { "K", KIB },
    { "KiB", KIB },
    { "kib", KIB },
    { "MB", 1000 * 1000 },
    { "M", MIB },
    { "m", MIB },
    { "MiB", MIB },
    { "mib", MIB },
    { "GB", 1000 * 1000 * 1000 },
    { "G", GIB },
    { "g", GIB },
    { "GiB", GIB },
    { "gib", GIB },
    { "TB", 1000000000000 },
    { "T", TIB },
    { "t", TIB },
    { "TiB", TIB },
    { "tib", TIB },
    { "PB", 1000000000000000 },
    { "P", TIB << 10 },
    { "p", TIB << 10 },
    { "PiB", TIB << 10 },
    { "EB", 1000000000000000000 },
    { "E", TIB << 20 },
    { "e", TIB << 20 },
    { "EiB", TIB << 20 },
};

guint64
num_unit_bytes(const char *unit)
{
    for (gsize i = 0; i < G_N_ELEMENTS(units); i++)
        if (strcmp(unit, units[i].word) == 0)
            return units[i].bytes;
    return 0;
}

gboolean
num_parse_size(const char *text, guint64 default_unit_bytes, guint64 *bytes, GError **error)
{
    const char *rest = text;
    guint64 whole = 0;

    if (!g_ascii_isdigit(*rest))
        return fail(error, KHO_ERROR_INVALID,
                    "'%s' is not a size: write digits and a unit, as in 512M or 10G", text);
    for (; g_ascii_isdigit(*rest); rest++)
        if (!num_mul(whole, 10, &whole) || !num_add(whole, (guint64) (*rest - '0'), &whole))
            return fail(error, KHO_ERROR_INVALID,
                        "size '%s' is too large: at most %" G_GUINT64_FORMAT " bytes", text, NUM_OFFSET_MAX);

    gdouble fraction = 0;
    if (*rest == '.') {
        gdouble scale = 0.1;
        if (!g_ascii_isdigit(rest[1]))
            return fail(error, KHO_ERROR_INVALID, "'%s' is not a size: a digit must follow the point", text);
        for (rest++; g_ascii_isdigit(*rest); rest++, scale /= 10)
            fraction += (*rest - '0') * scale;
    }

    guint64 unit = *rest ? num_unit_bytes(rest) : default_unit_bytes;
    if (unit == 0)
        return fail(error, KHO_ERROR_INVALID, "'%s' is not a size: unknown unit '%s', use K, M, G or T", text,
                    rest);

    guint64 total;
    if (!num_mul(whole, unit, &total) || !num_add(total, (guint64) (fraction * (gdouble) unit), &total)
        || total > NUM_OFFSET_MAX)
        return fail(error, KHO_ERROR_INVALID, "size '%s' is too large: at most %" G_GUINT64_FORMAT " bytes",
                    text, NUM_OFFSET_MAX);
    *bytes = total;
    return TRUE;
}

char *
num_format_size(guint64 bytes)
{
    static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    gdouble value = (gdouble) bytes;
    gsize i = 0;

    /* 1000 rather than 1024, so that at most three digits stand before the unit. */
    for (; value >= 1000 && i + 1 < G_N_ELEMENTS(names); i++)
        value /= 1024;
    return g_strdup_printf("%.3g %s", value, names[i]);
}

gboolean
num_parse_uint(const char *text, guint64 max, const char *what, guint64 *value, GError **error)
{
    guint64 parsed;

    if (!g_ascii_string_to_unsigned(text, 10, 0, max, &parsed, NULL))
        return fail(error, KHO_ERROR_INVALID, "%s '%s' is not a whole number from 0 to %" G_GUINT64_FORMAT,
                    what, text, max);
    *value = parsed;
    return TRUE;
}
