#include "vm/client.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/sock.h"
#include "vm/folder.h"
#include "vm/qmp.h"

#include <errno.h>

struct VmClient {
    char *machine;
    int fd; /* -1 after a failure: a late answer must not be taken for the next one's */
    const volatile gint *cancelled;
    QmpDecoder *decoder;
    gint64 last_id;
    gboolean negotiated;
    GQueue events; /* json_t *: those not asked for yet, oldest first */
};

/* Who asks for no events has no use for more of them. */
#define EVENTS_MAX 256

void
vm_client_close(VmClient *c)
{
    if (!c)
        return;
    fd_clear(&c->fd);
    qmp_decoder_free(c->decoder);
    for (json_t *event; (event = g_queue_pop_head(&c->events));)
        json_decref(event);
    g_free(c->machine);
    g_free(c);
}

void
vm_client_set_cancelled(VmClient *c, const volatile gint *cancelled)
{
    c->cancelled = cancelled;
}

gboolean
vm_client_is_open(const VmClient *c)
{
    return c->fd >= 0;
}

static gboolean
fail_ended(const VmClient *c, GError **error)
{
    return fail(
        error, KHO_ERROR_IO,
        "kho-vm of machine '%s' ended before it answered: the next command starts another one, try again",
        c->machine);
}

/* Fails and ends the connection. */
static json_t *
broken(VmClient *c, GError *why, GError **error)
{
    fd_clear(&c->fd);
    g_propagate_error(error, why);
    return NULL;
}

static void
keep_event(VmClient *c, json_t *event)
{
    g_queue_push_tail(&c->events, json_incref(event));
    if (g_queue_get_length(&c->events) > EVENTS_MAX)
        json_decref(g_queue_pop_head(&c->events));
}

/* Reads what there is. FALSE with the connection ended. */
static gboolean
read_some(VmClient *c, GError **error)
{
    char chunk[65536];
    GError *why = NULL;
    gssize n = pipe_read_some(c->fd, chunk, sizeof chunk);

    if (n > 0) {
        qmp_decoder_feed(c->decoder, chunk, (gsize) n);
        return TRUE;
    }
    if (n < 0 && errno != ECONNRESET)
        fail_errno(&why, errno, "cannot read from kho-vm");
    else
        fail_ended(c, &why);
    return broken(c, why, error) != NULL;
}

/* The next message that holds @key; events that come before it are kept. */
static json_t *
receive(VmClient *c, const char *key, gint64 deadline_ms, GError **error)
{
    GError *why = NULL;

    for (;;) {
        json_auto json_t *message = NULL;
        if (!qmp_decoder_next(c->decoder, &message, &why))
            return broken(c, why, error);
        if (message && (json_object_get(message, key) || json_object_get(message, "error")))
            return json_steal(&message);
        if (message && json_object_get(message, "event"))
            keep_event(c, message);
        if (message)
            continue;
        if (!pipe_wait_unless(c->fd, deadline_ms, c->cancelled, "kho-vm", &why))
            return broken(c, why, error);
        if (!read_some(c, error))
            return NULL;
    }
}

static gboolean
send_all(VmClient *c, const json_t *message, gint64 deadline_ms, GError **error)
{
    gsize len;
    g_autofree char *line = qmp_line(message, &len);
    GError *why = NULL;

    for (gsize done = 0; done < len;) {
        gssize n = sock_send_some(c->fd, line + done, len - done);
        if (n > 0)
            done += (gsize) n;
        else if (n < 0 && errno == EAGAIN && pipe_wait_writable(c->fd, deadline_ms, "kho-vm", &why))
            continue;
        else {
            if (!why)
                fail_ended(c, &why);
            broken(c, why, error);
            return FALSE;
        }
    }
    return TRUE;
}

/* Its guest does not need a kho-vm that says nothing, and the next command starts another one. */
static void
fail_silent(pid_t pid, GError *why, GError **error)
{
    if (pid > 0 && g_error_matches(why, KHO_ERROR, KHO_ERROR_TIMEOUT))
        fail(error, KHO_ERROR_TIMEOUT,
             "%s: process %d is stopped or hangs: let it go on (kill -CONT %d), or end it (kill -KILL %d): "
             "the "
             "guest goes on, and the next command starts another",
             why->message, (int) pid, (int) pid, (int) pid);
    else
        g_propagate_error(error, g_error_copy(why));
}

VmClient *
vm_client_open(const char *run_path, guint timeout_ms, GError **error)
{
    gint64 deadline_ms = deadline_in(timeout_ms);
    g_autoptr(VmClient) c = g_new0(VmClient, 1);
    g_autoptr(GError) why = NULL;
    fd_auto int folder = vm_folder_open(run_path, FALSE, &why);

    c->machine = g_path_get_basename(run_path);
    c->decoder = qmp_decoder_new(QMP_MAX_BYTES);
    c->fd = folder < 0 ? -1 : sock_connect(folder, VM_FILE_CLIENTS, deadline_ms, &why);
    if (c->fd < 0) {
        broken(c, g_steal_pointer(&why), error);
        return NULL;
    }
    if (!pipe_set_nonblock(c->fd, TRUE, "the connection to kho-vm", error))
        return NULL;
    uid_t uid;
    pid_t pid = 0;
    sock_peer(c->fd, &uid, &pid, NULL);
    json_auto json_t *greeting = receive(c, "QMP", deadline_ms, &why);
    if (!greeting) {
        fail_silent(pid, why, error);
        return NULL;
    }
    if (json_object_get(greeting, "QMP"))
        return g_steal_pointer(&c);
    qmp_fail(greeting, "the connection", &why);
    broken(c, g_steal_pointer(&why), error);
    return NULL;
}

static json_t *
call(VmClient *c, const char *command, json_t *arguments, gint64 deadline_ms, GError **error)
{
    json_auto json_t *message = qmp_command(command, arguments, json_integer(++c->last_id));

    if (c->fd < 0) {
        fail_ended(c, error);
        return NULL;
    }
    if (!send_all(c, message, deadline_ms, error))
        return NULL;
    for (;;) {
        json_auto json_t *answer = receive(c, "return", deadline_ms, error);
        if (!answer)
            return NULL;
        if (json_int_or(answer, "id", 0) != c->last_id)
            continue;
        if (!json_object_get(answer, "error"))
            return json_incref(json_object_get(answer, "return"));
        qmp_fail(answer, command, error);
        return NULL;
    }
}

json_t *
vm_client_call(VmClient *c, const char *command, json_t *arguments, guint timeout_ms, GError **error)
{
    gint64 deadline_ms = deadline_in(timeout_ms);
    json_auto json_t *owned = arguments;

    /* kho-vm's own commands need no negotiation. */
    if (!c->negotiated && !g_str_has_prefix(command, "kho-")) {
        json_auto json_t *answer = call(c, "qmp_capabilities", NULL, deadline_ms, error);
        if (!answer)
            return NULL;
        c->negotiated = TRUE;
    }
    return call(c, command, json_steal(&owned), deadline_ms, error);
}

gboolean
vm_client_tell(VmClient *c, const char *command, json_t *arguments, guint timeout_ms, GError **error)
{
    json_auto json_t *answer = vm_client_call(c, command, arguments, timeout_ms, error);

    return answer != NULL;
}

json_t *
vm_client_next_event(VmClient *c, gint64 deadline_ms, GError **error)
{
    GError *why = NULL;

    while (g_queue_is_empty(&c->events)) {
        json_auto json_t *message = NULL;
        if (c->fd < 0) {
            fail_ended(c, error);
            return NULL;
        }
        if (!qmp_decoder_next(c->decoder, &message, &why))
            return broken(c, why, error);
        if (message && json_object_get(message, "event"))
            keep_event(c, message);
        else if (!message
                 && (!pipe_wait_readable(c->fd, deadline_ms, "kho-vm", error) || !read_some(c, error)))
            return NULL;
    }
    return g_queue_pop_head(&c->events);
}

VmStatus *
vm_client_status(VmClient *c, guint timeout_ms, GError **error)
{
    json_auto json_t *answer = vm_client_call(c, "kho-status", NULL, timeout_ms, error);

    return answer ? vm_status_from_json(answer, "kho-vm's status", error) : NULL;
}

static gboolean
destroy(VmClient *c, gboolean graceful, const char *reason, guint timeout_ms, GError **error)
{
    json_t *arguments = json_object();

    json_object_set_new(arguments, "graceful", json_boolean(graceful));
    json_object_set_new(arguments, "timeout-ms", json_integer(timeout_ms));
    json_set_string(arguments, "reason", reason);
    /* kho-vm keeps the deadline itself; a second more is for its answer. */
    json_auto json_t *answer = vm_client_call(c, "kho-destroy", arguments, timeout_ms + 1000, error);
    return answer != NULL;
}

gboolean
vm_client_destroy(VmClient *c, gboolean graceful, guint timeout_ms, GError **error)
{
    return destroy(c, graceful, NULL, timeout_ms, error);
}

gboolean
vm_client_end(VmClient *c, const char *reason, guint timeout_ms, GError **error)
{
    return destroy(c, FALSE, reason, timeout_ms, error);
}

gboolean
vm_client_powerdown(VmClient *c, gboolean reboot, guint timeout_ms, GError **error)
{
    json_auto json_t *answer =
        vm_client_call(c, reboot ? "kho-reboot" : "kho-shutdown", NULL, timeout_ms, error);

    return answer != NULL;
}
