/* The table of verbs. One verb is in verb.h. */
#ifndef KHO_QEMUIMG_VERBS_H
#define KHO_QEMUIMG_VERBS_H

#include "qemuimg/verb.h"

/* In the order of qemu-img's own help. */
extern const QimgVerb *const qimg_verbs[];
extern const gsize qimg_n_verbs;

#endif
