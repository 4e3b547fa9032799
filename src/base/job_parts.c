#include "base/job_parts.h"

static void
tell(guint64 done_bytes, guint64 total_bytes, gpointer data)
{
    const JobParts *parts = data;

    /* What a part holds may have grown since it was counted. */
    parts->whole->progress(MIN(parts->before_bytes + done_bytes, parts->total_bytes), parts->total_bytes,
                           parts->whole->data);
}

void
job_parts_init(JobParts *parts, const KhoJob *whole)
{
    *parts = (JobParts){ .whole = whole,
                         .part = { .progress = whole && whole->progress ? tell : NULL,
                                   .data = parts,
                                   .cancelled = whole ? whole->cancelled : NULL } };
}
