#include "qemuimg/size.h"

#include "base/num.h"
#include "qemuimg/output.h"

#include <string.h>

/* What a letter stands for; 0: nothing. */
static guint64
unit_of(char letter)
{
    static const char letters[] = "bkmgtpe";
    const char *at = letter ? strchr(letters, g_ascii_tolower(letter)) : NULL;

    return at ? G_GUINT64_CONSTANT(1) << (10 * (at - letters)) : 0;
}

static QimgSizeFault
read_digits(const char **at, guint base, guint64 *value)
{
    gboolean too_large = FALSE;
    const char *start = *at;

    *value = 0;
    for (;; (*at)++) {
        int digit = base == 16 ? g_ascii_xdigit_value(**at) : g_ascii_digit_value(**at);
        if (digit < 0)
            break;
        too_large |= !num_mul(*value, base, value) || !num_add(*value, (guint64) digit, value);
    }
    if (*at == start)
        return QIMG_SIZE_MALFORMED;
    return too_large ? QIMG_SIZE_TOO_LARGE : QIMG_SIZE_GOOD;
}

static gdouble
read_fraction(const char **at)
{
    gdouble fraction = 0, scale = 0.1;

    if (**at != '.')
        return 0;
    for ((*at)++; g_ascii_isdigit(**at); (*at)++, scale /= 10)
        fraction += g_ascii_digit_value(**at) * scale;
    return fraction;
}

/* What @whole and @fraction of a unit are in bytes. */
static QimgSizeFault
scale_up(guint64 whole, gdouble fraction, guint64 unit, guint64 *bytes)
{
    guint64 product;

    if (fraction > 0 && unit == 1)
        return QIMG_SIZE_MALFORMED;
    if (!num_mul(whole, unit, &product)
        || !num_add(product, (guint64) (fraction * (gdouble) unit + 0.5), bytes))
        return QIMG_SIZE_TOO_LARGE;
    return QIMG_SIZE_GOOD;
}

QimgSizeFault
qimg_size_parse(const char *text, guint64 *bytes)
{
    const char *at = text;

    while (g_ascii_isspace(*at))
        at++;
    if (*at == '+')
        at++;
    gboolean is_hex = at[0] == '0' && (at[1] == 'x' || at[1] == 'X');
    at += is_hex ? 2 : 0;

    guint64 whole, unit = 1;
    QimgSizeFault digits = read_digits(&at, is_hex ? 16 : 10, &whole);
    if (digits == QIMG_SIZE_MALFORMED)
        return digits;
    gdouble fraction = is_hex ? 0 : read_fraction(&at);
    if (*at) {
        unit = unit_of(*at++);
        if (is_hex)
            qimg_warning("Using a multiplier suffix on hex numbers is deprecated: %s", text);
    }
    if (unit == 0 || *at)
        return QIMG_SIZE_MALFORMED;
    return digits == QIMG_SIZE_GOOD ? scale_up(whole, fraction, unit, bytes) : digits;
}

gboolean
qimg_size_read(const char *text, const char *what, guint64 min, guint64 max, guint64 *bytes)
{
    QimgSizeFault fault = qimg_size_parse(text, bytes);

    if (fault == QIMG_SIZE_GOOD && *bytes >= min && *bytes <= max)
        return TRUE;
    if (fault == QIMG_SIZE_MALFORMED) {
        qimg_error("Invalid %s specified. You may use k, M, G, T, P or E suffixes for", what);
        qimg_error("kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
    } else {
        qimg_error("Invalid %s specified. Must be between %" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT ".",
                   what, min, max);
    }
    return FALSE;
}
