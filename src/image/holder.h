/* Who holds a lock on a file: found through /proc, since the kernel's lock table names no process for
 * open-file-description locks. The locks themselves live in lock.c. */
#ifndef KHO_IMAGE_HOLDER_H
#define KHO_IMAGE_HOLDER_H

#include <glib.h>
#include <sys/stat.h>

/* "machine 'web1' (qemu-system-x86_64, pid 4711)", or "qemu-io (pid 4711)"; NULL where no process that this
 * one may look at locks byte @byte of the file @st. *is_machine says which form. Slow (walks all processes):
 * for error messages only. */
char *image_holder_describe(const struct stat *st, guint64 byte, gboolean *is_machine);

/* The parts that take text, for tests: does one line of /proc/PID/fdinfo/N lock @byte, and what does a
 * command line (arguments ended by NULs) call the process. */
gboolean image_holder_line_locks(const char *line, guint64 byte);
char *image_holder_name(const char *cmdline, gsize len, guint64 pid, gboolean *is_machine);

#endif
