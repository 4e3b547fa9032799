/* What an emulator says of itself when it is run for that alone. A running one is asked over QMP. */
#ifndef KHO_VM_EMULATOR_H
#define KHO_VM_EMULATOR_H

#include <kho/error.h>

/* "7.2.0"; NULL where it cannot be run or says nothing of the kind. Freed with g_free. */
char *vm_emulator_version(const char *emulator);

/* Whether the emulator can read memory that QEMU @wrote (VM_QEMU_VERSION, vm/savefile.h) has written:
 * KHO_ERROR_UNSUPPORTED for an older one. @label names the memory in messages. */
gboolean vm_emulator_check_memory(const char *emulator, guint32 wrote, const char *label, GError **error);

#endif
