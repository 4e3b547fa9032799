/* The short stops of a guest that a snapshot needs: told from a person's suspend, so that whoever finds one
 * can end it. */
#ifndef KHO_SNAPSHOT_PAUSE_H
#define KHO_SNAPSHOT_PAUSE_H

#include "vm/client.h"

/* Stops the guest; nothing where it stands still already. */
gboolean pause_begin(VmClient *client, GError **error);

/* Says that the next stop of the guest, which something else brings about, is such a one. */
gboolean pause_announce(VmClient *client, GError **error);

/* Lets the guest go on, where it stands still because of one of these, and takes an
 * announcement back. */
gboolean pause_end(VmClient *client, GError **error);

#endif
