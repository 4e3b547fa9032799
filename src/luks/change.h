/* Changes to the passphrases of a LUKS header, and what is refused so that nobody locks himself out. How a
 * slot is written lives in slot.h. The messages are QEMU's own, since scripts read them. Spec:
 * docs/spec/luks.md. */
#ifndef KHO_LUKS_CHANGE_H
#define KHO_LUKS_CHANGE_H

#include "luks/slot.h"

#define LUKS_ANY_SLOT (-1)

typedef struct {
    gboolean add;                  /* else remove */
    gint64 slot;                   /* or LUKS_ANY_SLOT: a free one; or those that @old opens */
    const LuksPassphrase *unlock;  /* one that opens the header now; to remove, NULL: not asked */
    const LuksPassphrase *new_one; /* add */
    const LuksPassphrase *old;     /* remove: may be NULL where the slot is said */
    guint64 iteration_ms;          /* add */
    gboolean
        force; /* an active slot may be replaced, and the last one removed: then nothing opens the disk */
} LuksChange;

/* KHO_ERROR_INVALID where the change is refused, _DENIED where a passphrase does not open what it should;
 * nothing is written then. A crash leaves what was, or what shall be; where several slots are removed, some
 * of them. */
gboolean luks_change(const LuksPlace *place, const LuksChange *change, GError **error);

#endif
