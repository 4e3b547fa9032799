/* Who is QEMU where the process that was taken for it has ended: an emulator may be a script that starts the
 * real one, and then its end is not the machine's. That is over when nobody holds `alive` any more. Watching
 * and ending what is found is death.c's. */
#ifndef KHO_SUPERVISOR_SUCCESSOR_H
#define KHO_SUPERVISOR_SUCCESSOR_H

#include <glib.h>

struct Supervisor;

/* Whether `alive` is held by another process. Lets go of this one's hold first, which was QEMU's as well. */
gboolean successor_lives(struct Supervisor *s);

/* Takes the oldest process that holds `alive` for QEMU: s->qemu and the status name it afterwards. FALSE
 * where none can be seen; then s->qemu is as it was. */
gboolean successor_take(struct Supervisor *s);

#endif
