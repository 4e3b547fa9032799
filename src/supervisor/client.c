#include "supervisor/client.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/sock.h"
#include "supervisor/broker.h"
#include "supervisor/command.h"
#include "supervisor/monitor.h"
#include "supervisor/supervisor.h"

#include <errno.h>
#include <glib-unix.h>

/* A client that has this much unread when the next message comes is dropped. */
#define UNREAD_MAX (1 << 20)
/* Commands of one client that wait for QEMU; more of its input is read when some are answered. */
#define OPEN_MAX 64

static void
wait_free(Wait *w)
{
    json_decref(w->id);
    g_free(w);
}

/* What a client asked that has left is not begun any more; what QEMU has begun is answered to nobody. */
static void
leave_waits(Client *c)
{
    Supervisor *s = c->s;

    for (GList *l = c->waits; l; l = l->next) {
        Wait *w = l->data;
        w->client = NULL;
        if (s->monitor && monitor_forget(s->monitor, w))
            wait_free(w);
    }
    g_clear_pointer(&c->waits, g_list_free);
}

void
client_free(gpointer p)
{
    Client *c = p;

    leave_waits(c);
    g_clear_handle_id(&c->in_watch, g_source_remove);
    g_clear_handle_id(&c->out_watch, g_source_remove);
    g_clear_handle_id(&c->doom, g_source_remove);
    fd_clear(&c->fd);
    qmp_decoder_free(c->decoder);
    g_byte_array_unref(c->unread);
    g_free(c);
}

static gboolean
on_doom(gpointer data)
{
    Client *c = data;

    c->doom = 0;
    broker_forget(c->broker, c);
    return G_SOURCE_REMOVE;
}

/* The client may stand on the call stack: it is only marked here, and freed by the loop. */
void
client_drop(Client *c, const char *why)
{
    if (c->doomed)
        return;
    if (why)
        vm_log(c->s->log, "dropped the client of process %d: %s", (int) c->pid, why);
    c->doomed = TRUE;
    leave_waits(c);
    g_clear_handle_id(&c->in_watch, g_source_remove);
    g_clear_handle_id(&c->out_watch, g_source_remove);
    c->doom = g_idle_add_full(G_PRIORITY_HIGH, on_doom, c, NULL);
}

/* Sends what the socket takes; FALSE when the client has gone. */
static gboolean
client_flush(Client *c)
{
    while (c->unread->len > 0) {
        gssize n = sock_send_some(c->fd, c->unread->data, c->unread->len);
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        g_byte_array_remove_range(c->unread, 0, (guint) n);
    }
    return TRUE;
}

static gboolean
on_writable(gint fd, GIOCondition condition, gpointer data)
{
    Client *c = data;
    gboolean there = client_flush(c);

    if (there && c->unread->len > 0)
        return G_SOURCE_CONTINUE;
    c->out_watch = 0;
    if (!there)
        client_drop(c, NULL);
    return G_SOURCE_REMOVE;
}

void
client_send_line(Client *c, const char *line, gsize len)
{
    if (c->doomed)
        return;
    if (c->unread->len > UNREAD_MAX) {
        client_drop(c, "it does not read what it is sent");
        return;
    }
    g_byte_array_append(c->unread, (const guint8 *) line, (guint) len);
    if (c->out_watch != 0)
        return;
    if (!client_flush(c))
        client_drop(c, NULL);
    else if (c->unread->len > 0)
        c->out_watch = g_unix_fd_add(c->fd, G_IO_OUT, on_writable, c);
}

void
client_send(Client *c, json_t *message)
{
    gsize len;
    json_auto json_t *owned = message;
    g_autofree char *line = qmp_line(owned, &len);

    client_send_line(c, line, len);
}

void
client_refuse(Client *c, json_t *id, KhoErrorCode code, const char *text)
{
    g_autoptr(GError) why = g_error_new_literal(KHO_ERROR, (gint) code, text);
    client_send(c, qmp_error(why, id));
}

Wait *
wait_new(Client *c, json_t *id)
{
    Wait *w = g_new0(Wait, 1);

    *w = (Wait){ .s = c->s, .client = c, .id = json_incref(id) };
    c->waits = g_list_prepend(c->waits, w);
    c->open++;
    return w;
}

void
wait_answer(Wait *w, json_t *message)
{
    Client *c = w->client;

    if (c) {
        c->waits = g_list_remove(c->waits, w);
        c->open--;
        client_send(c, message);
        client_go_on(c);
    } else {
        json_decref(message);
    }
    wait_free(w);
}

static void
run_messages(Client *c)
{
    g_autoptr(GError) why = NULL;

    while (!c->doomed && !broker_is_closing(c->broker) && c->open < OPEN_MAX) {
        json_auto json_t *message = NULL;
        if (!qmp_decoder_next(c->decoder, &message, &why)) {
            client_refuse(c, NULL, KHO_ERROR_INVALID, why->message);
            client_drop(c, why->message);
            return;
        }
        if (!message)
            return;
        command_run(c, message);
    }
}

static gboolean
on_readable(gint fd, GIOCondition condition, gpointer data)
{
    Client *c = data;
    char chunk[16384];
    gssize n = pipe_read_some(fd, chunk, sizeof chunk);

    if (n < 0 && errno == EAGAIN)
        return G_SOURCE_CONTINUE;
    if (n <= 0) {
        client_drop(c, NULL);
        return G_SOURCE_REMOVE;
    }
    c->heard_ms = clock_now_ms();
    qmp_decoder_feed(c->decoder, chunk, (gsize) n);
    client_go_on(c);
    return c->in_watch != 0;
}

/* A client that is held back is seen to leave all the same. */
static gboolean
on_left(gint fd, GIOCondition condition, gpointer data)
{
    client_drop(data, NULL);
    return G_SOURCE_REMOVE;
}

static void
client_watch(Client *c)
{
    gboolean reads = c->open < OPEN_MAX;

    if (c->in_watch != 0 && reads == c->reads)
        return;
    g_clear_handle_id(&c->in_watch, g_source_remove);
    c->reads = reads;
    if (reads)
        c->in_watch = g_unix_fd_add(c->fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable, c);
    else
        c->in_watch = g_unix_fd_add(c->fd, G_IO_HUP | G_IO_ERR, on_left, c);
}

/* Runs what has been read, as far as OPEN_MAX allows, and reads on only while it does: after new bytes and
 * after each answer. */
void
client_go_on(Client *c)
{
    if (c->running) /* an answer that came while its command was run */
        return;
    c->running = TRUE;
    run_messages(c);
    c->running = FALSE;
    if (!c->doomed)
        client_watch(c);
}

Client *
client_new(Supervisor *s, Broker *broker, int fd)
{
    Client *c = g_new0(Client, 1);

    *c = (Client){ .s = s, .broker = broker, .fd = fd, .decoder = qmp_decoder_new(QMP_CLIENT_MAX_BYTES) };
    c->unread = g_byte_array_new();
    c->heard_ms = clock_now_ms();
    return c;
}
