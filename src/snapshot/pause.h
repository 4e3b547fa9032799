/* The short stops of a guest that a snapshot needs: told from a person's suspend, so that whoever finds one
 * can end it. */
#ifndef KHO_SNAPSHOT_PAUSE_H
#define KHO_SNAPSHOT_PAUSE_H

#include "vm/client.h"

/* What is put before the reason of a guest that stood still already: it is held meanwhile, and stands still
 * for its own reason again afterwards. */
#define PAUSE_HELD "held: "
/* The reason of one that was stopped; libvirt's word. */
#define PAUSE_REASON "creating snapshot"

/* Whether a guest that is paused for @reason must not be let go but by pause_end. */
gboolean pause_is_ours(const char *reason);

/* Stops the guest, or holds one that stands still already. */
gboolean pause_begin(VmClient *client, GError **error);

/* Says that the next stop of the guest, which something else brings about, is such a one; nothing where it
 * stands still already. */
gboolean pause_announce(VmClient *client, GError **error);

/* Lets the guest go on, where it stands still because of one of these, and takes an
 * announcement back. */
gboolean pause_end(VmClient *client, GError **error);

#endif
