/* Long work that is done in parts, one behind the other, and told to its caller as one. */
#ifndef KHO_BASE_JOB_PARTS_H
#define KHO_BASE_JOB_PARTS_H

#include <kho/job.h>

typedef struct {
    const KhoJob *whole; /* the caller's */
    guint64 before_bytes, total_bytes;
    KhoJob part; /* for whoever does a part */
} JobParts;

/* @whole may be NULL. Who uses it sets total_bytes, all parts', and adds each part that is done to
 * before_bytes.
 * @parts stays where it is meanwhile. */
void job_parts_init(JobParts *parts, const KhoJob *whole);

#endif
