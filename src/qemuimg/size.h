/* Sizes as QEMU reads them: "64M", "1.5G", "0x100". kho's own verbs read theirs by base/num.h. */
#ifndef KHO_QEMUIMG_SIZE_H
#define KHO_QEMUIMG_SIZE_H

#include <glib.h>

typedef enum { QIMG_SIZE_GOOD, QIMG_SIZE_MALFORMED, QIMG_SIZE_TOO_LARGE } QimgSizeFault;

/* Digits, decimal with an optional fraction or hexadecimal, and one letter of b, k, m, g, t, p, e. A fraction
 * without a letter is malformed, since bytes have none. A leading blank or plus is passed over. */
QimgSizeFault qimg_size_parse(const char *text, guint64 *bytes);

/* The same for an argument that is called @what ("image size") in messages: FALSE where it is wrong or lies
 * outside [@min, @max], which has been said. */
gboolean qimg_size_read(const char *text, const char *what, guint64 min, guint64 max, guint64 *bytes);

#endif
