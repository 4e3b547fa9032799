/* QEMU's argument vector, as a pure function of a machine and of what the start found for it. Nothing is
 * opened, probed or run here: descriptors and the plan are made in start.c and used in supervisor/. */
#ifndef KHO_VM_ARGV_H
#define KHO_VM_ARGV_H

#include "model/domain.h"

struct json_t;

/* One file of a disk's chain. kho-vm dup2()s the file to @fd in the child. */
typedef struct {
    gint fd;            /* the literal number that -add-fd names; -1: no descriptor, @path is given to QEMU */
    gint fdset;         /* the set's number: /dev/fdset/N; from 0, unique */
    const char *format; /* "raw" or "qcow2" */
    gboolean read_only; /* how the file is opened: lower layers always are */
    const char *path;   /* for messages and the descriptor's opaque text */
} VmLayer;

typedef struct {
    const VmLayer *layers; /* the file that the guest writes first, the base last */
    gsize n_layers;        /* 0: an empty drive */
} VmDisk;

typedef struct {
    gint monitor_fd;   /* listening socket for QMP, as QEMU inherits it */
    gboolean incoming; /* its memory will come over QMP: it does not boot */
    gboolean kvm;      /* /dev/kvm works: without it type 'kvm' is refused */
    gint vnc_port; /* what autoport chose; used when the first graphics has port -1; MODEL_UNSET: none chosen
                    */
    const VmDisk *disks; /* one for each of the machine's disks, in its order */
    gsize n_disks;
} VmResources;

/**
 * vm_argv_build:
 * @domain: completed (model_domain_complete) with aliases (model_domain_assign_aliases)
 * @resources: what the start found; as many disks as @domain has
 *
 * Returns: NULL-terminated strings, the emulator first; NULL with @error:
 *   %KHO_ERROR_UNSUPPORTED  an element that this kho cannot give to QEMU; the message names it and its line
 *   %KHO_ERROR_INVALID      elements that contradict each other (two disks at one place of the bus)
 *
 * Tests: tests/golden/argv. QEMU's own documents: qemu-system-x86_64 -help, docs/interop/qmp.
 */
char **vm_argv_build(const ModelDomain *domain, const VmResources *resources, GError **error);

/**
 * vm_argv_disk:
 * @domain, @resources: as for vm_argv_build
 * @disk: which of its disks
 * @nodes: (out): the arguments of one blockdev-add each, lowest layer first; a new array
 * @device: (out): the arguments of device_add; a new reference
 *
 * What QEMU is told by QMP when that disk is plugged into a machine that runs: the same as vm_argv_build
 * would say. Files with a descriptor are named by their fdset, which holds it already.
 *
 * Returns: FALSE as vm_argv_build does.
 */
gboolean vm_argv_disk(const ModelDomain *domain, const VmResources *resources, gsize disk,
                      struct json_t **nodes, struct json_t **device, GError **error);

/* Everything that vm_argv_build would refuse, checked without resources: for the start's early look. */
gboolean vm_argv_check(const ModelDomain *domain, GError **error);

/* The node name of layer @layer of the disk with @alias, as blockdev commands name it: "virtio-disk0-0". At
 * most 31 bytes (QEMU's limit): longer aliases are replaced by "disk" and the disk's index. */
char *vm_argv_node_name(const ModelDomain *domain, gsize disk, gsize layer);

#endif
