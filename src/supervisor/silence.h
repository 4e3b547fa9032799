/* A QEMU that does not answer: for how long, what is told and written down of it, and that it is not asked
 * for what it would do some day, long after who asked has been told that it failed. */
#ifndef KHO_SUPERVISOR_SILENCE_H
#define KHO_SUPERVISOR_SILENCE_H

#include <glib.h>

struct Supervisor;

/* 0 while QEMU answers, or for how long it has not. */
guint64 silence_ms(const struct Supervisor *s);

/* TRUE where QEMU may be given a command. FALSE with KHO_ERROR_TIMEOUT, naming the process and the cure,
 * where a signal has stopped it or it has been silent for seconds; KHO_ERROR_BUSY where nobody talks to it.
 */
gboolean silence_admits(const struct Supervisor *s, GError **error);

/* Once a second: who waits for an answer that does not come is told; a silence that began or ended goes to
 * the log and to status.json, so that since when is known also to the kho-vm after this one. */
void silence_note(struct Supervisor *s);

#endif
