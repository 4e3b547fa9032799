/* What QEMU writes to stdout and stderr: read from stderr.fifo, line by line, into the log. The fifo outlives
 * its reader, so that an adopter goes on where the dead kho-vm stopped. */
#ifndef KHO_SUPERVISOR_OUTPUT_H
#define KHO_SUPERVISOR_OUTPUT_H

#include "vm/log.h"

typedef struct Output Output;

/* Makes the fifo where there is none, and reads it from now on. @log outlives it. */
Output *output_new(int folder, VmLog *log, GError **error);
void output_free(Output *output);

/* A descriptor for QEMU: opened for reading as well, so that writing never fails for want of a reader, and
 * without blocking, so that a full fifo loses lines and never stops the guest. */
int output_open_for_qemu(int folder, GError **error);

/* Reads what is there: after QEMU's end, all of it. */
void output_drain(Output *output);

/* What QEMU complained of last, on one line, without warnings; "" for nothing. */
const char *output_complaint(const Output *output);

#endif
