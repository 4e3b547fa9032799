/* What a start finds on the host for a machine: the files of its disks, KVM, a port. The order of a start is
 * in start.c. */
#ifndef KHO_HOST_START_H
#define KHO_HOST_START_H

#include "host/machine.h"
#include "vm/argv.h"
#include "vm/plan.h"

/* The disks of one machine, ready for vm_argv_build; every file is in the plan. */
typedef struct {
    GArray *disks;     /* VmDisk */
    GPtrArray *layers; /* VmLayer *: one allocation a disk */
    GPtrArray *names;  /* char *: what the layers point to */
} StartDisks;

/**
 * start_disks_find:
 * @model: the live copy; a drive whose file may be missing (startupPolicy) loses its source when it is
 *
 * Opens every image with its chain and QEMU's locks, to see that it is there, is what it is said to be, and
 * is free; puts its files into @plan, and closes it again: QEMU takes the locks itself.
 *
 * Returns: FALSE with the disk and machine named: KHO_ERROR_NOT_FOUND, _INVALID (another format, the chain
 * loops, one file twice), _BUSY (names the holder), _CORRUPT, _UNSUPPORTED.
 */
gboolean start_disks_find(ModelDomain *model, VmPlan *plan, StartDisks *found, GError **error);
void start_disks_clear(StartDisks *found);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(StartDisks, start_disks_clear)

#endif
