/* The files of a machine that is to be started, other than its disks (start_disks.h): looked at before QEMU
 * opens them by name. */
#ifndef KHO_VM_START_FILES_H
#define KHO_VM_START_FILES_H

#include "model/domain.h"

/* Whether kernel, initrd and what consoles write to can be had without waiting. KHO_ERROR_NOT_FOUND, _INVALID
 * (a pipe, a device), _DENIED; the message names machine, part and file. */
gboolean vm_start_files_check(const ModelDomain *model, GError **error);

#endif
