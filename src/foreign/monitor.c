#include "foreign/monitor.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/sock.h"

#include <string.h>

/* Opening reads tables, and what a slow disk takes for them counts. */
#define ANSWER_MS 60000
/* The longest answer tells of an image with many snapshots. */
#define LINE_BYTES_MAX ((gsize) 16 << 20)

struct Monitor {
    int fd;
    char *label;
    const volatile gint *cancelled;
    GString *unread;
};

Monitor *
monitor_new(int fd, const char *label, const volatile gint *cancelled)
{
    Monitor *monitor = g_new0(Monitor, 1);

    monitor->fd = fd;
    monitor->label = g_strdup(label);
    monitor->cancelled = cancelled;
    monitor->unread = g_string_new(NULL);
    return monitor;
}

/* The next line, as JSON. */
static json_t *
read_message(Monitor *monitor, gint64 deadline_ms, GError **error)
{
    char *end;

    while (!(end = memchr(monitor->unread->str, '\n', monitor->unread->len))) {
        char chunk[4096];

        if (!pipe_wait_unless(monitor->fd, deadline_ms, monitor->cancelled, monitor->label, error))
            return NULL;
        gssize n = pipe_read_some(monitor->fd, chunk, sizeof chunk);
        if (n <= 0 || monitor->unread->len + (gsize) n > LINE_BYTES_MAX) {
            fail(error, KHO_ERROR_IO, "%s: the storage daemon that reads it ended", monitor->label);
            return NULL;
        }
        g_string_append_len(monitor->unread, chunk, n);
    }
    gsize len = (gsize) (end - monitor->unread->str);
    json_t *message = json_parse(monitor->unread->str, len, monitor->label, error);
    g_string_erase(monitor->unread, 0, (gssize) len + 1);
    return message;
}

static gboolean
send_line(Monitor *monitor, const char *line, GError **error)
{
    for (gsize sent = 0, len = strlen(line); sent < len;) {
        gssize n = sock_send_some(monitor->fd, line + sent, len - sent);

        if (n <= 0)
            return fail(error, KHO_ERROR_IO, "%s: the storage daemon that reads it ended", monitor->label);
        sent += (gsize) n;
    }
    return TRUE;
}

static gboolean
send_command(Monitor *monitor, const char *command, json_t *arguments, GError **error)
{
    json_auto json_t *message = json_pack("{s:s}", "execute", command);

    if (arguments)
        json_object_set_new(message, "arguments", arguments);
    g_autofree char *text = json_line(message);
    g_autofree char *line = g_strconcat(text, "\n", NULL);
    return send_line(monitor, line, error);
}

json_t *
monitor_ask(Monitor *monitor, const char *command, json_t *arguments, GError **error)
{
    gint64 deadline_ms = deadline_in(ANSWER_MS);

    if (!send_command(monitor, command, arguments, error))
        return NULL;
    for (;;) {
        json_auto json_t *message = read_message(monitor, deadline_ms, error);
        json_t *refusal = message ? json_object_get(message, "error") : NULL;
        json_t *answer = message ? json_object_get(message, "return") : NULL;

        if (refusal) {
            fail(error, KHO_ERROR_INVALID, "%s: %s", monitor->label,
                 json_string_or(refusal, "desc", "refused without a reason"));
            return NULL;
        }
        if (!message || answer)
            return json_incref(answer);
    }
}

gboolean
monitor_greet(Monitor *monitor, GError **error)
{
    json_auto json_t *greeting = read_message(monitor, deadline_in(ANSWER_MS), error);
    json_auto json_t *answer = greeting ? monitor_ask(monitor, "qmp_capabilities", NULL, error) : NULL;

    return answer != NULL;
}

/* Is the message the event @event about @id, with that @status (NULL: any)? */
static gboolean
is_event(const json_t *message, const char *event, const char *id, const char *status)
{
    const json_t *data = json_object_get(message, "data");

    return g_str_equal(json_string_or(message, "event", ""), event)
           && g_str_equal(json_string_or(data, "id", ""), id)
           && (!status || g_str_equal(json_string_or(data, "status", ""), status));
}

/* Sends a command and waits for its answer and for an event, which may come before. */
static gboolean
ask_until(Monitor *monitor, const char *command, json_t *arguments, const char *event, const char *id,
          const char *status, GError **error)
{
    gboolean ended = FALSE, begun = FALSE;

    if (!send_command(monitor, command, arguments, error))
        return FALSE;
    while (!ended || !begun) {
        json_auto json_t *message = read_message(monitor, DEADLINE_NEVER, error);
        json_t *refusal = message ? json_object_get(message, "error") : NULL;

        if (!message)
            return FALSE;
        if (refusal)
            return fail(error, KHO_ERROR_INVALID, "%s: %s", monitor->label,
                        json_string_or(refusal, "desc", "refused without a reason"));
        begun = begun || json_object_get(message, "return");
        ended = ended || is_event(message, event, id, status);
    }
    return TRUE;
}

gboolean
monitor_end_export(Monitor *monitor, const char *id, GError **error)
{
    return ask_until(monitor, "block-export-del", json_pack("{s:s}", "id", id), "BLOCK_EXPORT_DELETED", id,
                     NULL, error);
}

/* Of a job that has ended: FALSE with its error. */
static gboolean
check_job(Monitor *monitor, const char *id, GError **error)
{
    json_auto json_t *jobs = monitor_ask(monitor, "query-jobs", NULL, error);
    json_t *job;
    gsize i;

    if (!jobs)
        return FALSE;
    json_array_foreach (jobs, i, job) {
        const char *why = json_string_or(job, "error", NULL);
        if (why && g_str_equal(json_string_or(job, "id", ""), id))
            return fail(error, KHO_ERROR_INVALID, "%s: %s", monitor->label, why);
    }
    json_auto json_t *dismissed = monitor_ask(monitor, "job-dismiss", json_pack("{s:s}", "id", id), error);
    return dismissed != NULL;
}

gboolean
monitor_run_job(Monitor *monitor, const char *command, json_t *arguments, const char *id, GError **error)
{
    json_object_set_new(arguments, "job-id", json_string(id));
    return ask_until(monitor, command, arguments, "JOB_STATUS_CHANGE", id, "concluded", error)
           && check_job(monitor, id, error);
}

void
monitor_free(Monitor *monitor)
{
    fd_clear(&monitor->fd);
    g_string_free(monitor->unread, TRUE);
    g_free(monitor->label);
    g_free(monitor);
}
