/* A machine's memory as a file: made, finished once QEMU has written its stream into it, looked at, used.
 * What its head holds is vm/savefile.h's; how QEMU is brought to write and to read the stream,
 * vm/migrate.h's. */
#ifndef KHO_VM_RAMFILE_H
#define KHO_VM_RAMFILE_H

#include "vm/savefile.h"

#include <kho/job.h>

/* Makes the file (mode 0600) with its head, not whole yet; QEMU writes from @head->stream_off on.
 * KHO_ERROR_EXISTS, _NOT_FOUND (the folder), _NO_SPACE, _DENIED. */
gboolean vm_ramfile_make(const char *path, VmSaveHead *head, GError **error);

/**
 * vm_ramfile_finish:
 * @head: as vm_ramfile_make got it; becomes that of the whole file
 * @disks: what vm_stamps_take said (vm/stamp.h); NULL: nothing is known of the disks
 *
 * Called when QEMU has written its stream: measures it and its checksum, appends @disks, and makes the file
 * whole and durable, in this order. Its name is durable when the caller has fsynced the folder.
 */
gboolean
vm_ramfile_finish(const char *path, VmSaveHead *head, const char *disks, const KhoJob *job, GError **error);

/* The head of a whole file. KHO_ERROR_NOT_FOUND; _INVALID (no save file); _CORRUPT (damaged, truncated, not
 * whole); _UNSUPPORTED. The stream is not read. */
VmSaveHead *vm_ramfile_read(const char *path, GError **error);

/* The same, also of a file that is not whole: for whoever finishes it, or takes it back. */
VmSaveHead *vm_ramfile_read_any(const char *path, GError **error);

/* Reads the whole stream, and compares its checksum: KHO_ERROR_CORRUPT, _CANCELLED. */
gboolean vm_ramfile_check_stream(const char *path, const VmSaveHead *head, const KhoJob *job, GError **error);

/* What vm_ramfile_finish got as @disks, in *disks; NULL where that was nothing. */
gboolean vm_ramfile_disks(const char *path, const VmSaveHead *head, char **disks, GError **error);

/* Marks the file as used, or as not used, durably. */
gboolean vm_ramfile_set_used(const char *path, gboolean used, GError **error);

#endif
