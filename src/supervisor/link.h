/* What joins the monitor to the other parts: the same for a start and an adoption. */
#ifndef KHO_SUPERVISOR_LINK_H
#define KHO_SUPERVISOR_LINK_H

#include "supervisor/monitor.h"

/* Their data is the Supervisor. */
extern const MonitorHooks link_hooks;

#endif
