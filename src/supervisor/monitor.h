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
    void (*beat)(gpointer data);                   /* once a second, whether QEMU answers or not */
} MonitorHooks;

/* @folder holds monitor.sock and stays open; @silent_ms: for how long QEMU is known not to have answered
 * already. Connects at once, or later when that fails. */
Monitor *monitor_new(int folder, guint64 silent_ms, const MonitorHooks *hooks, gpointer data);
void monitor_free(Monitor *monitor);

/* Sends @command, or keeps it until QEMU is ready and answers: what a QEMU that hangs would carry out some
 * day, long after who asked has given up, is not written to it. (transfer full) of @arguments; @reply may be
 * NULL. FALSE, without a call of @reply, where too much is kept already. */
gboolean
monitor_send(Monitor *monitor, const char *command, json_t *arguments, MonitorReply reply, gpointer data);

/* The same, and QEMU gets a descriptor of @fd's open file with it (add-fd, getfd); (transfer full) of @fd. */
gboolean monitor_send_file(Monitor *monitor, const char *command, json_t *arguments, int fd,
                           MonitorReply reply, gpointer data);

/* Takes back what was sent with @data, as long as nothing of it was written: TRUE, and its reply is never
 * called. */
gboolean monitor_forget(Monitor *monitor, gconstpointer data);

/* The answer to what was sent with @data goes to nobody, written or not: its reply is never called. */
void monitor_ignore(Monitor *monitor, gconstpointer data);

/* For how long QEMU has answered nothing though it was asked, or has not greeted; 0 where nothing is open. */
guint64 monitor_waited_ms(const Monitor *monitor);
/* The same for people: 0 for what a healthy QEMU under load may take; and until it greets, the silence before
 * this monitor counts. */
guint64 monitor_unanswered_ms(const Monitor *monitor);
/* How long ago QEMU answered last, asked or not. */
guint64 monitor_unheard_ms(const Monitor *monitor);

/* QEMU's greeting, borrowed; NULL before the first. */
const json_t *monitor_greeting(const Monitor *monitor);

#endif
