/* Starting a machine: from a definition to a QEMU that runs under its kho-vm. Whether it may be started (its
 * state, its lock) is decided by those who call. */
#ifndef KHO_VM_START_H
#define KHO_VM_START_H

#include "model/domain.h"
#include "store/lock.h"

#include <kho/job.h>

/* What this host brings to a definition (model_domain_complete). */
extern const ModelDefaults vm_host_defaults;

typedef struct VmStartOptions {
    gboolean paused; /* the guest is not let go */
    /* Where its memory comes from: a file, and where in it QEMU's stream begins, in bytes; NULL: it boots. */
    const char *incoming_path;
    guint64 incoming_off;
    /* With it: the disks are opened for writing when the guest is let go, and not touched until then. Nor can
     * its memory be written out again until then: not for a machine that is to stay paused. */
    gboolean late_disks;
    const StoreWait *wait; /* for the counter of ids; NULL: 30 s */
} VmStartOptions;

/**
 * vm_start:
 * @model: the definition to run, completed with vm_host_defaults; becomes the live one: it gets an id and
 *     aliases, and an optional drive whose file is missing loses its source
 * @options: NULL for none
 *
 * Looks for everything that the machine needs, says what is missing, wrong or in use before QEMU does, and
 * starts kho-vm with it. Returns when the guest runs (or is ready to, with @options->paused). Called by the
 * holder of the machine's change lock, or of its journal entry, for a machine that is shut off.
 *
 * Returns: FALSE, nothing being left behind: KHO_ERROR_NOT_FOUND (an image, kernel, initrd, the emulator),
 * _BUSY (names who holds an image; the machine runs), _INVALID and _UNSUPPORTED (the definition; QEMU's own
 * words), _CORRUPT, _CANCELLED, _TIMEOUT.
 */
gboolean vm_start(const StoreTree *tree, ModelDomain *model, const VmStartOptions *options, const KhoJob *job,
                  GError **error);

#endif
