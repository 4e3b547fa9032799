/* What host/ knows of one machine: where its files are, how its definition is read, what it may be asked for
 * in which state. The exported functions are in include/kho/domain.h. */
#ifndef KHO_HOST_MACHINE_H
#define KHO_HOST_MACHINE_H

#include "host/host.h"
#include "model/domain.h"

#include <kho/domain.h>

struct KhoDomain {
    KhoHost *host;
    char *name, *uuid; /* uuid is NULL where the definition is damaged: kho_domain_lookup_damaged */
};

/* What a verb needs to be in order to make sense. */
typedef enum {
    MACHINE_START,
    MACHINE_SHUTDOWN,
    MACHINE_REBOOT,
    MACHINE_RESET,
    MACHINE_DESTROY,
    MACHINE_SUSPEND,
    MACHINE_RESUME,
    MACHINE_CONSOLE,
    MACHINE_SNAPSHOT,
    MACHINE_SAVE,
    MACHINE_N_VERBS
} MachineVerb;

/* The table of verbs and states: FALSE with KHO_ERROR_INVALID, saying what the machine is and what to do
 * first. */
gboolean machine_state_admits(MachineVerb verb, const char *name, KhoDomainState state, GError **error);

/* "shut off" and not, for all that only asks whether a QEMU is there. */
gboolean machine_state_is_active(KhoDomainState state);

/* The name of the definition with that uuid (canonical text), other than @but (may be NULL); NULL for none.
 * Reads all definitions, parses those that hold the text. */
char *machine_name_of_uuid(const StoreTree *tree, const char *uuid, const char *but);

/* Takes the change lock of @domain, for all that changes it. What a dead process left half done is finished
 * or taken back first; KHO_ERROR_BUSY, told with what and by whom, where another process drives a change of
 * it. */
StoreLock *machine_lock(const KhoDomain *domain, GError **error);

/* Warns of files that its snapshots closed and that somebody changed since, for what goes on all the same. */
void machine_warn_changed(const KhoDomain *domain);

#endif
