/* A systemd scope of its own, so that a machine outlives the login or service it was started from. */
#ifndef KHO_SUPERVISOR_SCOPE_H
#define KHO_SUPERVISOR_SCOPE_H

#include <glib.h>

/**
 * scope_enter:
 * @argv: this process's own arguments
 *
 * Where systemd runs, starts this program once more through `systemd-run --scope` with the descriptors of
 * vm/runtime.h. KHO_SYSTEMD_RUN names another program than systemd-run, also where systemd does not run; "no"
 * means none.
 *
 * Returns: TRUE when the other process took over and this one is to end. FALSE when this one is to go on, in
 * a scope already or in none; then *note (freed with g_free) says what failed, or is NULL.
 */
gboolean scope_enter(char **argv, char **note);

#endif
