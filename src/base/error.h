/* Raising errors in one line. A message is one line: what, which object, which value, and who holds it or
 * what to do. The codes live in kho/error.h. */
#ifndef KHO_BASE_ERROR_H
#define KHO_BASE_ERROR_H

#include <kho/error.h>

/* Sets @error and returns FALSE, so that `return fail(error, KHO_ERROR_INVALID, "...", ...);` is one line.
 * Whatever stands in the values, the message is one line of UTF-8. */
gboolean fail(GError **error, KhoErrorCode code, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* The same with ": strerror(@errno_value)" appended and the code that @errno_value implies
 * (ENOENT NOT_FOUND, EEXIST EXISTS, EACCES/EPERM/EROFS DENIED, ENOSPC/EDQUOT/EFBIG NO_SPACE,
 * EAGAIN/EBUSY/ETXTBSY BUSY, ETIMEDOUT TIMEOUT, EINVAL/ENAMETOOLONG/... INVALID, otherwise IO). */
gboolean fail_errno(GError **error, int errno_value, const char *format, ...) G_GNUC_PRINTF(3, 4);

KhoErrorCode error_code_of_errno(int errno_value);

/* One line of UTF-8: line breaks and control characters are replaced by spaces, wrong bytes by U+FFFD, and
 * spaces around it are gone. */
char *error_one_line(const char *text);

#endif
