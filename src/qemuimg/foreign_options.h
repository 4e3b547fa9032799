/* What -o takes for new images of the formats that QEMU writes for kho: names, defaults and order as qemu-img
 * shows them. What becomes of a value is QEMU's to say; the rest of -o is create_options.h. */
#ifndef KHO_QEMUIMG_FOREIGN_OPTIONS_H
#define KHO_QEMUIMG_FOREIGN_OPTIONS_H

#include "qemuimg/option_list.h"

#include <kho/image.h>

/* The options of @format; NULL where it is not one of these, or cannot be made. */
const QimgOptRow *qimg_foreign_rows(const char *format, guint *n_rows);

/* Fills in what @create says of such an image: FALSE where kho cannot make it so, which has been said about
 * @subject. */
gboolean qimg_foreign_apply(const QimgOptions *options, const char *subject, KhoImageCreate *create);

#endif
