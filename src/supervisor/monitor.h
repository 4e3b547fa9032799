/* The connection to QEMU's monitor: commands with callbacks, events, the heartbeat, and for how long QEMU has
 * not answered. It is made again when it breaks while QEMU lives. What is asked is the business of others. */
#ifndef KHO_SUPERVISOR_MONITOR_H
#define KHO_SUPERVISOR_MONITOR_H

#include "base/json.h"

typedef struct Monitor Monitor;

/* @reply is the whole message ("return" or "error"), or NULL when the connection ended before it came. */
typedef void (*MonitorReply)(const json_t *reply, gpointer data);

typedef struct {
    void (*ready)(
        gpointer data); /* QEMU greeted and took qmp_capabilities; again after each new connection */
    void (*event)(const json_t *message, gpointer data);
    void (*note)(const char *text, gpointer data); /* for the log */
} MonitorHooks;

/* @folder holds monitor.sock and stays open. Connects at once, or later when that fails. */
Monitor *monitor_new(int folder, const MonitorHooks *hooks, gpointer data);
void monitor_free(Monitor *monitor);

/* Sends @command (or keeps it until QEMU is ready); (transfer full) of @arguments; @reply may be NULL. FALSE,
 * without a call of @reply, where QEMU has left too much unread. */
gboolean
monitor_send(Monitor *monitor, const char *command, json_t *arguments, MonitorReply reply, gpointer data);

/* 0 while QEMU answers, or for how long its oldest question has been open. */
guint64 monitor_unanswered_ms(const Monitor *monitor);

/* QEMU's greeting, borrowed; NULL before the first. */
const json_t *monitor_greeting(const Monitor *monitor);

#endif
