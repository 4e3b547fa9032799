#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

G_DEFINE_QUARK(kho - error - quark, kho_error)

static const char *const code_names[KHO_ERROR_N_CODES] = {
    [KHO_ERROR_NOT_FOUND] = "not-found",
    [KHO_ERROR_EXISTS] = "exists",
    [KHO_ERROR_INVALID] = "invalid",
    [KHO_ERROR_UNSUPPORTED] = "unsupported",
    [KHO_ERROR_CORRUPT] = "corrupt",
    [KHO_ERROR_BUSY] = "busy",
    [KHO_ERROR_DENIED] = "denied",
    [KHO_ERROR_NO_SPACE] = "no-space",
    [KHO_ERROR_IO] = "io",
    [KHO_ERROR_TIMEOUT] = "timeout",
    [KHO_ERROR_CANCELLED] = "cancelled",
    [KHO_ERROR_INTERNAL] = "internal",
};

const char *
kho_error_code_name(KhoErrorCode code)
{
    return (guint) code < KHO_ERROR_N_CODES ? code_names[code] : "unknown";
}

gboolean
fail(GError **error, KhoErrorCode code, const char *format, ...)
{
    va_list args;

    if (!error)
        return FALSE;
    va_start(args, format);
    g_autofree char *message = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *line = error_one_line(message);
    *error = g_error_new_literal(KHO_ERROR, (gint) code, line);
    return FALSE;
}

gboolean
fail_errno(GError **error, int errno_value, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    return fail(error, error_code_of_errno(errno_value), "%s: %s", what, g_strerror(errno_value));
}

KhoErrorCode
error_code_of_errno(int errno_value)
{
    switch (errno_value) {
    case ENOENT:
    case ENOTDIR:
    case ESRCH:
    case ENXIO:
    case ENODEV: return KHO_ERROR_NOT_FOUND;
    case EEXIST:
    case ENOTEMPTY: return KHO_ERROR_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS: return KHO_ERROR_DENIED;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return KHO_ERROR_NO_SPACE;
    case EAGAIN:
    case EBUSY:
    case ETXTBSY: return KHO_ERROR_BUSY;
    case ETIMEDOUT: return KHO_ERROR_TIMEOUT;
    case EINVAL:
    case ENAMETOOLONG:
    case ELOOP:
    case EISDIR:
    case EOVERFLOW:
    case ERANGE: return KHO_ERROR_INVALID;
    case ENOSYS:
    case EOPNOTSUPP: return KHO_ERROR_UNSUPPORTED;
    case ECANCELED: return KHO_ERROR_CANCELLED;
    default: return KHO_ERROR_IO;
    }
}

char *
error_one_line(const char *text)
{
    char *line = g_utf8_make_valid(text ? text : "", -1);

    for (char *c = line; *c; c++)
        if ((guchar) *c < 0x20 || *c == 0x7f)
            *c = ' ';
    return g_strstrip(line);
}
