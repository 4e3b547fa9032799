/* What an emulator says of itself when it is run for that alone. A running one is asked over QMP. */
#ifndef KHO_VM_EMULATOR_H
#define KHO_VM_EMULATOR_H

#include <glib.h>

/* "7.2.0"; NULL where it cannot be run or says nothing of the kind. Freed with g_free. */
char *vm_emulator_version(const char *emulator);

#endif
