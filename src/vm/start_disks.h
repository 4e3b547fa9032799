/* The images of a machine that is to be started: opened once, to see that they are there and free, and
 * written into the plan. The order of a start is in start.c; what QEMU is told of them in argv_disk.c. */
#ifndef KHO_VM_START_DISKS_H
#define KHO_VM_START_DISKS_H

#include "vm/argv.h"
#include "vm/plan.h"

/* So many files all chains of a machine may have together: each is a descriptor of QEMU's. */
#define VM_START_FILES_MAX 97

/* The disks of one machine, ready for vm_argv_build; every file is in the plan. */
typedef struct {
    GArray *disks;     /* VmDisk */
    GPtrArray *layers; /* VmLayer *: one allocation a disk */
    GPtrArray *names;  /* char *: what the layers point to */
} VmStartDisks;

/**
 * vm_start_disks_find:
 * @model: the live copy; a drive whose file may be missing (startupPolicy) loses its source when it is
 *
 * Opens every image with its chain and QEMU's locks, to see that it is there, is what it is said to be, and
 * is free; puts its files into @plan, and closes it again: QEMU takes the locks itself.
 *
 * Returns: FALSE with the disk and machine named: KHO_ERROR_NOT_FOUND, _INVALID (another format, the chain
 * loops, one file twice), _BUSY (names the holder), _CORRUPT, _UNSUPPORTED.
 */
gboolean vm_start_disks_find(ModelDomain *model, VmPlan *plan, VmStartDisks *found, GError **error);
void vm_start_disks_clear(VmStartDisks *found);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VmStartDisks, vm_start_disks_clear)

#endif
