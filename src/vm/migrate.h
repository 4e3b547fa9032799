/* A machine's memory on its way out of QEMU, into a file. The file's head is vm/ramfile.h's; the way back in
 * is part of a start (vm/start.h). Everything is asked through kho-vm, which opens the file. */
#ifndef KHO_VM_MIGRATE_H
#define KHO_VM_MIGRATE_H

#include "vm/client.h"

#include <kho/job.h>

/**
 * vm_migrate_out:
 * @path: absolute; stands
 * @off: where QEMU begins to write, in bytes
 *
 * Lets QEMU write its memory and returns when it has written all: the guest stands still then, if it did not
 * before, and QEMU has let go of its images ("postmigrate"). The guest may run meanwhile: it stands still for
 * some 20 ms, as QEMU reckons, at the end, and for longer where it writes its memory faster than that can be
 * written out. Nothing is fsynced. The job's progress counts the guest's memory.
 *
 * Returns: FALSE with KHO_ERROR_CANCELLED, _NO_SPACE, _IO, _TIMEOUT. What was begun goes on until
 * vm_migrate_cancel ends it, and the guest may stand still: `cont`.
 */
gboolean vm_migrate_out(VmClient *client, const char *path, guint64 off, const KhoJob *job, GError **error);

/* Ends a migration that is under way, and returns when it has ended; TRUE as well where there is none. The
 * guest does what it did before, but one that had been stopped for the end of it, or had come to
 * "postmigrate", stands still until `cont`. */
gboolean vm_migrate_cancel(VmClient *client, GError **error);

#endif
