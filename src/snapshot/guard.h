/* Keeping the files that snapshots closed from being written: asked by whoever is about to open an image for
 * writing. The snapshots' own merges do not ask. What such a file was like then is closed.h's. */
#ifndef KHO_SNAPSHOT_GUARD_H
#define KHO_SNAPSHOT_GUARD_H

#include "model/domain.h"
#include "store/tree.h"

/* Whether the file at @path, whatever links lead there, may be written: KHO_ERROR_BUSY where a snapshot of
 * any machine closed it, naming both and the way out. A snapshot that is half deleted keeps nothing any more;
 * metadata that cannot be read is passed over. */
gboolean guard_check_file(const StoreTree *tree, const char *path, GError **error);

/* The same for what a disk writes to; for a machine, of all its disks. */
gboolean guard_check_disk(const StoreTree *tree, const ModelDisk *disk, GError **error);
gboolean guard_check_machine(const StoreTree *tree, const ModelDomain *machine, GError **error);

#endif
