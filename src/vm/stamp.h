/* What a machine's disk files are like at one moment, told by their size and time: whoever brings back memory
 * that belongs to that moment can see whether the disks have moved on. Of an image its headers are read. */
#ifndef KHO_VM_STAMP_H
#define KHO_VM_STAMP_H

#include "model/domain.h"

/* The files beside the image at @path (@format NULL: raw) that hold something of its disk: its data file, all
 * that it lies on, and their data files; of char *, absolute. The image may be in use. As kho_image_open. */
GPtrArray *vm_stamps_below(const char *path, const char *format, GError **error);

/* JSON of every disk that the guest can write, with what it lies on, for vm_ramfile_finish; the guest stands
 * still and QEMU has flushed. Fsyncs the files. Freed with g_free. KHO_ERROR_NOT_FOUND, _DENIED; as
 * kho_image_open. */
char *vm_stamps_take(const ModelDomain *model, GError **error);

/* KHO_ERROR_NOT_FOUND where a file is gone, _INVALID where one has been written since; both name the disk.
 * What a disk lies on is passed over where @stamps was made by a kho that did not note it.
 * _CORRUPT where @stamps is not what vm_stamps_take makes. */
gboolean vm_stamps_check(const char *stamps, GError **error);

#endif
