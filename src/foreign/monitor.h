/* A conversation in QMP with a storage daemon that belongs to this process alone: one question at a time,
 * each with a deadline. What is asked is foreign.c's business; kho-vm's connections to machines are
 * vm/qmp.h's. */
#ifndef KHO_FOREIGN_MONITOR_H
#define KHO_FOREIGN_MONITOR_H

#include "base/json.h"

typedef struct Monitor Monitor;

/* Over the connected socket @fd, taken over. @label names the image in messages. */
Monitor *monitor_new(int fd, const char *label, const volatile gint *cancelled);

/* Waits for the greeting and answers it. */
gboolean monitor_greet(Monitor *monitor, GError **error);

/* Sends @command with @arguments (a reference is taken over; may be NULL). The answer's "return", or NULL
 * with KHO_ERROR_INVALID and the daemon's words, _TIMEOUT, _CANCELLED, or _IO where the daemon ended. */
json_t *monitor_ask(Monitor *monitor, const char *command, json_t *arguments, GError **error);

/* Asks for a job and waits until it has ended, for as long as it works; its error is this call's. */
gboolean
monitor_run_job(Monitor *monitor, const char *command, json_t *arguments, const char *id, GError **error);

/* Takes back an export that no client uses any more, and waits until that is done. */
gboolean monitor_end_export(Monitor *monitor, const char *id, GError **error);

void monitor_free(Monitor *monitor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Monitor, monitor_free)

#endif
