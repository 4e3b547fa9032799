/* TCP ports of this host. */
#ifndef KHO_BASE_PORT_H
#define KHO_BASE_PORT_H

#include <glib.h>

/* The first port from @first to @last that can be listened on at @address (an IP address as text) at this
 * moment; another process may take it before it is used. KHO_ERROR_INVALID for what is no address,
 * KHO_ERROR_BUSY when none is free. */
gboolean port_find_free(const char *address, guint16 first, guint16 last, guint16 *port, GError **error);

#endif
