/* Looking at the source of a copy: which runs there are, and which parts of them are to be copied. Both
 * passes of a copy ask it; what they do then is share.c's and copy.c's business. */
#ifndef KHO_IMAGE_SURVEY_H
#define KHO_IMAGE_SURVEY_H

#include "image/copy.h"
#include "image/stretch.h"

/* How far one look into the map goes. */
#define SURVEY_MAX_BYTES GIB

/* What the source chain says at @start of the plan's range; past its end there is a hole. */
gboolean
survey_run(const CopyPlan *plan, guint64 start, guint64 max_bytes, KhoMapEntry *entry, GError **error);

/* What is to be done from @start on, where only a part is copied; the stretch counts from the start of the
 * range too. */
gboolean
survey_stretch(const CopyPlan *plan, guint64 start, guint64 max_bytes, Stretch *stretch, GError **error);

#endif
