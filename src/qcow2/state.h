/* VM state on its way into a new image, between qcow2_state_begin and the snapshot that has it (qcow2.h). It
 * is written as a disk of its own, whose L1 table then becomes the end of the snapshot's. Spec:
 * docs/spec/qcow2.md, section 9. */
#ifndef KHO_QCOW2_STATE_H
#define KHO_QCOW2_STATE_H

#include "qcow2/image.h"

/* The disk's L1 table with that of the state behind it, where there is some, which is handed over; else
 * *@both stays as it is. Wants the meta lock. */
void qcow2_state_take_locked(Qcow2Image *image, Qcow2Words *both);

#endif
