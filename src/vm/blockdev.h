/* Files and block nodes that a running QEMU is given and that are taken back from it, under numbers and names
 * that the giver decided before: so each function here may be called again, by whoever comes after a death,
 * and does what is left to do. What stands where under a disk is nodes.h; the jobs that move bytes, job.h. */
#ifndef KHO_VM_BLOCKDEV_H
#define KHO_VM_BLOCKDEV_H

#include "base/json.h"
#include "vm/client.h"

/* *number: no fdset has it, nor one above it. */
gboolean vm_fdset_free_number(VmClient *client, gint64 *number, GError **error);

/* Opens the file at @path in QEMU, as the fdset of that number, unless there is one. */
gboolean vm_fdset_open(VmClient *client, gint64 number, const char *path, gboolean read_only, GError **error);

/* Closes the fdset; what QEMU still uses of it is open until the guest runs again. */
gboolean vm_fdset_close(VmClient *client, gint64 number, GError **error);

/* Closes each descriptor of the set by its number: the locks of those that nothing uses end at once, though
 * the guest be paused. */
gboolean vm_fdset_close_each(VmClient *client, gint64 number, GError **error);

/* blockdev-add with the arguments @node, unless QEMU has a node of its "node-name". */
gboolean vm_blockdev_add(VmClient *client, const json_t *node, GError **error);

/* blockdev-del, where QEMU has the node. */
gboolean vm_blockdev_drop(VmClient *client, const char *name, GError **error);

#endif
