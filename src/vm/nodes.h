/* What QEMU has open for a disk, layer by layer: its own word of which node stands where, for whoever changes
 * a chain under a guest. The names that a start gives are in argv.h. */
#ifndef KHO_VM_NODES_H
#define KHO_VM_NODES_H

#include "base/json.h"
#include "vm/client.h"

/* One layer of a disk. */
typedef struct VmNode {
    char *node;      /* of the format: "virtio-disk0-0" */
    char *file_node; /* of the file under it; NULL: this is one */
    gint64 fdset;    /* that the file is open through; -1: none */
    gboolean read_only;
    gboolean raw; /* of that format */
} VmNode;

void vm_node_free(VmNode *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmNode, vm_node_free)

/**
 * vm_nodes_of_device:
 * @device: a device's id, which is the disk's alias
 *
 * The layers that the device stands on, the one that the guest writes first; what a job that runs puts
 * between them is passed over. Asks QEMU (query-block, x-debug-query-block-graph, query-named-block-nodes).
 *
 * Returns: VmNode *, owned by the array, none for an empty drive; NULL with KHO_ERROR_NOT_FOUND where there
 * is no such drive, and what vm_client_call says.
 */
GPtrArray *vm_nodes_of_device(VmClient *client, const char *device, GError **error);

/* A node by its name, whether a disk stands on it or not; of a layer or a file. NULL without @error where
 * QEMU has none of that name. */
VmNode *vm_node_find(VmClient *client, const char *node, GError **error);

/* vm_nodes_of_device from QEMU's three answers. */
GPtrArray *vm_nodes_parse(const json_t *blocks, const json_t *graph, const json_t *named, const char *device,
                          GError **error);

/**
 * vm_node_flush:
 * @node: a layer's; of the format
 * @discard: its option of that name, which QEMU does not tell: "unmap", "ignore" (also NULL)
 *
 * Makes what a layer holds, its tables included, durable, and says whether that worked: reopens it with the
 * options that it has, which is the one command of QEMU 7.2 that does so. The guest's requests to that disk
 * wait meanwhile.
 *
 * Returns: FALSE with KHO_ERROR_NO_SPACE, _IO; _NOT_FOUND where there is no such node.
 */
gboolean vm_node_flush(VmClient *client, const char *node, const char *discard, GError **error);

/**
 * vm_node_write_file:
 * @aio: the disk's option of that name, which QEMU does not tell: "native", "io_uring", "threads" (also NULL)
 *
 * Opens the file under a lower layer for writing, for good: its fdset holds a descriptor for that.
 */
gboolean vm_node_write_file(VmClient *client, const VmNode *node, const char *aio, GError **error);

#endif
