/* Reading a verb's command line as the C library's getopt_long does, which qemu-img uses: options after
 * names, letters in one word, long names cut short. What values mean is the verbs' business. */
#ifndef KHO_QEMUIMG_ARGS_H
#define KHO_QEMUIMG_ARGS_H

#include "qemuimg/verb.h"

/* argv[0] is the verb's name. Fills @args (zeroed, verb->args_bytes long); *names points into @argv then.
 * Returns TRUE, or FALSE with *status set where the run ends here: help was asked for, or something is wrong
 * and has been said. */
gboolean
qimg_args_read(const QimgVerb *verb, int argc, char **argv, void *args, char *const **names, int *status);
void qimg_args_clear(const QimgVerb *verb, void *args);

/* How many names there are. */
guint qimg_names_count(char *const *names);

#endif
