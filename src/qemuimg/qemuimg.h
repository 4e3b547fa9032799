/* kho under the name qemu-img: the one way in. Verbs are in verb.h; what they do lives in image/, and kho's
 * own verbs in cli/. */
#ifndef KHO_QEMUIMG_QEMUIMG_H
#define KHO_QEMUIMG_QEMUIMG_H

#include <glib.h>

/* Is @program (argv[0]) this face's name? */
gboolean qemuimg_is_name(const char *program);

/* Runs the command line as qemu-img 7.2 does; returns its exit status. */
int qemuimg_main(int argc, char **argv);

#endif
