#include "supervisor/broker.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/sock.h"
#include "supervisor/client.h"
#include "supervisor/monitor.h"
#include "supervisor/supervisor.h"
#include "vm/folder.h"

#include <glib-unix.h>
#include <unistd.h>

#define CLIENTS_MAX     200
#define ACCEPT_AGAIN_MS 200

struct Broker {
    Supervisor *s;
    int fd;
    guint accept_watch;  /* for callers; or, where accepting fails, the timer of the next attempt */
    gboolean closing;    /* no further command is run */
    GPtrArray *clients;  /* of Client, owned */
    GPtrArray *destroys; /* of Wait: answered by broker_ended */
};

/* QEMU's own greeting (without out-of-band commands, which are not passed on); before it has greeted, one
 * without a version. */
static json_t *
greeting(const Broker *b)
{
    const json_t *of_qemu = b->s->monitor ? monitor_greeting(b->s->monitor) : NULL;

    if (of_qemu) {
        json_t *copy = json_deep_copy(of_qemu);
        json_object_set_new(json_object_get(copy, "QMP"), "capabilities", json_array());
        return copy;
    }
    return json_pack("{s:{s:{s:{s:i,s:i,s:i},s:s},s:[]}}", "QMP", "version", "qemu", "major", 0, "minor", 0,
                     "micro", 0, "package", "", "capabilities");
}

/* The owner of this process and root; everybody else is told and shown out. */
static gboolean
is_admitted(uid_t uid)
{
    return uid == geteuid() || uid == 0;
}

/* Whoever comes is served, so that no number of others keeps a machine from being destroyed: who waits for
 * nothing and has been silent for longest goes, or at last who has waited for longest. */
static gboolean
make_room(Broker *b)
{
    Client *least = NULL;

    for (guint i = 0; i < b->clients->len; i++) {
        Client *c = b->clients->pdata[i];
        gboolean idle = c->open == 0;
        if (c->doomed)
            continue;
        if (!least || idle > (least->open == 0)
            || (idle == (least->open == 0) && c->heard_ms < least->heard_ms))
            least = c;
    }
    if (least)
        client_drop(least, "there are too many, and it has said nothing for longest");
    return least != NULL;
}

static void
admit(Broker *b, int fd)
{
    Client *c = client_new(b->s, b, fd);
    g_autoptr(GError) why = NULL;
    uid_t uid = (uid_t) -1;

    if (b->clients->len >= CLIENTS_MAX)
        make_room(b);
    g_ptr_array_add(b->clients, c);
    if (!sock_peer(fd, &uid, &c->pid, &why) || !is_admitted(uid)) {
        client_refuse(c, NULL, KHO_ERROR_DENIED, "this machine belongs to another user");
        client_drop(c, "it belongs to another user");
    } else {
        client_send(c, greeting(b));
        client_go_on(c);
    }
}

static gboolean on_caller(gint fd, GIOCondition condition, gpointer data);

static gboolean
on_accept_again(gpointer data)
{
    Broker *b = data;

    b->accept_watch = g_unix_fd_add(b->fd, G_IO_IN, on_caller, b);
    return G_SOURCE_REMOVE;
}

/* Where a caller cannot be accepted (this process has all the descriptors that it may), one who is served
 * already makes room, before this is called again for the same caller. */
static gboolean
on_caller(gint fd, GIOCondition condition, gpointer data)
{
    Broker *b = data;
    g_autoptr(GError) why = NULL;
    int peer = sock_accept(fd, &why);

    if (peer >= 0)
        admit(b, peer);
    if (!why || make_room(b))
        return G_SOURCE_CONTINUE;
    vm_log(b->s->log, "%s", why->message);
    b->accept_watch = g_timeout_add(ACCEPT_AGAIN_MS, on_accept_again, b);
    return G_SOURCE_REMOVE;
}

Broker *
broker_new(Supervisor *s, GError **error)
{
    fd_auto int fd = sock_listen(s->folder, VM_FILE_CLIENTS, error);

    if (fd < 0)
        return NULL;
    Broker *b = g_new0(Broker, 1);
    *b = (Broker){ .s = s, .fd = fd_steal(&fd) };
    b->clients = g_ptr_array_new_with_free_func(client_free);
    b->destroys = g_ptr_array_new();
    b->accept_watch = g_unix_fd_add(b->fd, G_IO_IN, on_caller, b);
    return b;
}

void
broker_close(Broker *b)
{
    if (b)
        b->closing = TRUE;
}

gboolean
broker_is_closing(const Broker *b)
{
    return b->closing;
}

void
broker_forget(Broker *b, Client *c)
{
    g_ptr_array_remove_fast(b->clients, c);
}

void
broker_await_end(Broker *b, Wait *w)
{
    g_ptr_array_add(b->destroys, w);
}

void
broker_free(Broker *b)
{
    if (!b)
        return;
    g_clear_handle_id(&b->accept_watch, g_source_remove);
    fd_clear(&b->fd);
    broker_ended(b, NULL);
    g_ptr_array_unref(b->clients);
    for (guint i = 0; i < b->destroys->len; i++)
        wait_answer(b->destroys->pdata[i], NULL);
    g_ptr_array_unref(b->destroys);
    g_free(b);
}

void
broker_event(Broker *b, const json_t *message)
{
    gsize len;
    g_autofree char *line = qmp_line(message, &len);

    for (guint i = 0; i < b->clients->len; i++) {
        Client *c = b->clients->pdata[i];
        if (c->negotiated)
            client_send_line(c, line, len);
    }
}

void
broker_silent(Broker *b, const GError *why)
{
    g_autoptr(GPtrArray) queries = g_ptr_array_new();

    for (guint i = 0; i < b->clients->len; i++) {
        const Client *c = b->clients->pdata[i];
        for (const GList *l = c->waits; l; l = l->next)
            if (((const Wait *) l->data)->is_query)
                g_ptr_array_add(queries, l->data);
    }
    /* Only then they are answered, which lets their clients go on, and go. */
    for (guint i = 0; i < queries->len; i++)
        monitor_ignore(b->s->monitor, queries->pdata[i]);
    for (guint i = 0; i < queries->len; i++) {
        Wait *w = queries->pdata[i];
        wait_answer(w, qmp_error(why, w->id));
    }
}

void
broker_ended(Broker *b, const GError *why)
{
    /* Answering lets a client go on, which may ask again: that belongs to the next end. */
    g_autoptr(GPtrArray) waits = g_steal_pointer(&b->destroys);

    b->destroys = g_ptr_array_new();
    for (guint i = 0; i < waits->len; i++) {
        Wait *w = waits->pdata[i];
        wait_answer(w, why ? qmp_error(why, w->id) : qmp_return(NULL, w->id));
    }
}
