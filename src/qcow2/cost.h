/* What a change to an image will take, told before it is made: tables, and the file's blocks. Guest data that
 * is copied is image/'s business (image/cost.h). */
#ifndef KHO_QCOW2_COST_H
#define KHO_QCOW2_COST_H

#include "qcow2/image.h"

/* FormatOps.cost, .room */
gboolean qcow2_cost(FormatImage *image, const FormatChange *change, FormatCost *cost, GError **error);
gboolean qcow2_room(FormatImage *image, guint64 *bytes, GError **error);

#endif
