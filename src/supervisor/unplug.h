/* Devices of disks whose removal was asked for, and which the guest lets go of after who asked has given up:
 * what the driver would have done then (nodes, files, live.xml) is done here. Not here: asking for it
 * (hotplug/). */
#ifndef KHO_SUPERVISOR_UNPLUG_H
#define KHO_SUPERVISOR_UNPLUG_H

#include "supervisor/supervisor.h"

/* kho-unplug {"device","nodes"}: from now on the end of that device is seen to; the nodes are those that it
 * stands on now, more may come to stand on them. Without "nodes": who asks sees to it himself again.
 * KHO_ERROR_INVALID, or what writing it down says. */
gboolean unplug_note(Supervisor *s, const json_t *arguments, GError **error);

/* Looks which of them are gone, and clears up behind those. Whenever that may have become possible. */
void unplug_look(Supervisor *s);

/* What a kho-vm that died had noted. */
void unplug_load(Supervisor *s);

#endif
