/* What a machine's disk files are like at one moment, told by their size and time: whoever brings back memory
 * that belongs to that moment can see whether the disks have moved on. Nothing in an image is read here. */
#ifndef KHO_VM_STAMP_H
#define KHO_VM_STAMP_H

#include "model/domain.h"

/* JSON of every disk that the guest can write, for vm_ramfile_finish; the guest stands still and QEMU has
 * flushed. Fsyncs the files. Freed with g_free. KHO_ERROR_NOT_FOUND, _DENIED. */
char *vm_stamps_take(const ModelDomain *model, GError **error);

/* KHO_ERROR_NOT_FOUND where a file is gone, _INVALID where one has been written since; both name the disk.
 * _CORRUPT where @stamps is not what vm_stamps_take makes. */
gboolean vm_stamps_check(const char *stamps, GError **error);

#endif
