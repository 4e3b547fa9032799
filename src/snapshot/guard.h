/* Keeping the files that snapshots closed from being written, and those that a delete changes from being read
 * or built on: asked by whoever is about to open an image, or to let another one name it. The snapshots' own
 * merges do not ask. What a closed file was like then is closed.h's. */
#ifndef KHO_SNAPSHOT_GUARD_H
#define KHO_SNAPSHOT_GUARD_H

#include "model/domain.h"
#include "store/lock.h"

/* Whether the file at @path, whatever links lead there, may be written: KHO_ERROR_BUSY where a snapshot of
 * any machine closed it, or what lies on it, naming both and the way out, or guard_check_read refuses.
 * Metadata that cannot be read is passed over. */
gboolean guard_check_file(const StoreTree *tree, const char *path, GError **error);

/* Whether what is read through the image at @path (@format NULL: its header says) stays what it is:
 * KHO_ERROR_BUSY where its chain goes on a file that a snapshot's delete merges downwards, be that under way
 * or interrupted, naming both and the way out. Such a file is read by its machine alone, and by those who
 * come to it through other files of that machine. @machine (NULL: none): who reads; its own snapshots do not
 * count. */
gboolean guard_check_read(const StoreTree *tree, const char *machine, const char *path, const char *format,
                          GError **error);

/* The same for an image that was just made at @path and can be seen now, by a delete that begins later; and
 * whether its backing file is still there: KHO_ERROR_NOT_FOUND. The caller takes the image back otherwise.
 * Takes guard_lock, with @wait. */
gboolean guard_check_built(const StoreTree *tree, const char *path, const StoreWait *wait, GError **error);

/* What a disk of @machine reads and writes; all disks of a machine; and what they read alone. */
gboolean guard_check_disk(const StoreTree *tree, const char *machine, const ModelDisk *disk, GError **error);
gboolean guard_check_machine(const StoreTree *tree, const ModelDomain *machine, GError **error);
gboolean guard_check_machine_reads(const StoreTree *tree, const ModelDomain *machine, GError **error);

/* Held by a delete while it marks its snapshot, by whoever removes a file, from the look who needs it, and by
 * others from guard_check_... until what they build can be seen: so each sees the other. Taken after all
 * change locks, and held for a moment only. @wait: as store_lock_take. */
StoreLock *guard_lock(const StoreTree *tree, const StoreWait *wait, GError **error);

#endif
