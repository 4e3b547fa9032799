#include "supervisor/broker.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/sock.h"
#include "supervisor/grant.h"
#include "supervisor/monitor.h"
#include "supervisor/silence.h"
#include "supervisor/supervisor.h"
#include "vm/folder.h"
#include "vm/qmp.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <unistd.h>

/* A client that has this much unread when the next message comes is dropped. */
#define UNREAD_MAX (1 << 20)
/* Commands of one client that wait for QEMU; more of its input is read when some are answered. */
#define OPEN_MAX    64
#define CLIENTS_MAX 200

#define DESTROY_TIMEOUT_MS 15000
#define ACCEPT_AGAIN_MS    200

typedef struct {
    Broker *broker;
    int fd;
    pid_t pid;
    QmpDecoder *decoder;
    GByteArray *unread;
    gboolean negotiated, running, doomed; /* doomed: freed when the current dispatch is over */
    gboolean reads;                       /* in_watch is for reading, not only for its end */
    guint open;                           /* commands that wait for an answer */
    gint64 heard_ms;                      /* when it last sent something */
    guint in_watch, out_watch, doom;
    GList *waits; /* of Wait: what QEMU, or QEMU's end, still has to answer */
} Client;

/* One command that is answered later. The client may be gone by then. */
typedef struct {
    Supervisor *s;
    Client *client;              /* NULL when it has left */
    json_t *id;                  /* as the client gave it */
    void (*done)(Supervisor *s); /* called when QEMU took the command; may be NULL */
} Wait;

struct Broker {
    Supervisor *s;
    int fd;
    guint accept_watch;  /* for callers; or, where accepting fails, the timer of the next attempt */
    gboolean closing;    /* no further command is run */
    GPtrArray *clients;  /* of Client, owned */
    GPtrArray *destroys; /* of Wait: answered by broker_ended */
};

static void client_go_on(Client *c);

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
    Supervisor *s = c->broker->s;

    for (GList *l = c->waits; l; l = l->next) {
        Wait *w = l->data;
        w->client = NULL;
        if (s->monitor && monitor_forget(s->monitor, w))
            wait_free(w);
    }
    g_clear_pointer(&c->waits, g_list_free);
}

static void
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
    g_ptr_array_remove_fast(c->broker->clients, c);
    return G_SOURCE_REMOVE;
}

/* The client may stand on the call stack: it is only marked here, and freed by the loop. */
static void
client_drop(Client *c, const char *why)
{
    if (c->doomed)
        return;
    if (why)
        vm_log(c->broker->s->log, "dropped the client of process %d: %s", (int) c->pid, why);
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

static void
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

/* (transfer full) of @message. */
static void
client_send(Client *c, json_t *message)
{
    gsize len;
    json_auto json_t *owned = message;
    g_autofree char *line = qmp_line(owned, &len);

    client_send_line(c, line, len);
}

static void
client_refuse(Client *c, json_t *id, KhoErrorCode code, const char *text)
{
    g_autoptr(GError) why = g_error_new_literal(KHO_ERROR, (gint) code, text);
    client_send(c, qmp_error(why, id));
}

/* ---- commands that are answered later ---- */

static Wait *
wait_new(Client *c, json_t *id)
{
    Wait *w = g_new0(Wait, 1);

    *w = (Wait){ .s = c->broker->s, .client = c, .id = json_incref(id) };
    c->waits = g_list_prepend(c->waits, w);
    c->open++;
    return w;
}

/* (transfer full) of @message, which carries the client's id. */
static void
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

/* QEMU's answer under the client's id. */
static void
on_reply(const json_t *reply, gpointer data)
{
    Wait *w = data;
    g_autoptr(GError) gone = NULL;
    json_t *message;

    if (reply && w->done && json_object_get(reply, "return"))
        w->done(w->s);
    if (reply) {
        message = json_copy((json_t *) reply);
        json_object_del(message, "id");
        if (w->id)
            json_object_set(message, "id", w->id);
    } else {
        fail(&gone, KHO_ERROR_IO, "QEMU ended, or its monitor did, before it answered");
        message = qmp_error(gone, w->id);
    }
    wait_answer(w, message);
}

/* Hands over the descriptor of @grant. @done: see Wait. */
static void
forward_grant(Client *c, Grant *grant, json_t *id, void (*done)(Supervisor *s))
{
    g_autoptr(GError) silent = NULL;

    if (!silence_admits(c->broker->s, &silent)) {
        client_send(c, qmp_error(silent, id));
        return;
    }
    Wait *w = wait_new(c, id);
    w->done = done;
    if (!monitor_send_file(c->broker->s->monitor, grant->command, json_incref(grant->arguments),
                           fd_steal(&grant->fd), on_reply, w)) {
        g_autoptr(GError) why = g_error_new(KHO_ERROR, KHO_ERROR_BUSY, "QEMU does not read its commands");
        wait_answer(w, qmp_error(why, id));
    }
}

static void
forward(Client *c, const char *command, json_t *arguments, json_t *id, void (*done)(Supervisor *s))
{
    forward_grant(c, &(Grant){ command, arguments, -1 }, id, done);
}

/* ---- kho-vm's own commands ---- */

static void
do_status(Client *c, json_t *arguments, json_t *id)
{
    Supervisor *s = c->broker->s;

    s->status->unanswered_ms = silence_ms(s);
    json_t *status = vm_status_to_json(s->status);
    if (strcmp(s->status->state, VM_STATE_STARTING) == 0) {
        json_set_string(status, "state", "paused");
        json_set_string(status, "reason", "starting up");
    }
    client_send(c, qmp_return(status, id));
}

static void
do_destroy(Client *c, json_t *arguments, json_t *id)
{
    gint64 timeout_ms = json_int_or(arguments, "timeout-ms", DESTROY_TIMEOUT_MS);
    gboolean graceful = json_is_true(json_object_get(arguments, "graceful"));

    if (timeout_ms < 0 || timeout_ms > 3600 * 1000) {
        client_refuse(c, id, KHO_ERROR_INVALID, "timeout-ms is not from 0 to 3600000");
        return;
    }
    g_autoptr(GError) silent = NULL;
    if (graceful && c->broker->s->phase == PHASE_RUNNING && !silence_admits(c->broker->s, &silent)) {
        client_send(c, qmp_error(silent, id));
        return;
    }
    g_ptr_array_add(c->broker->destroys, wait_new(c, id));
    death_begin(c->broker->s, "destroyed", graceful, (guint) timeout_ms);
}

static void
on_shutdown_asked(Supervisor *s)
{
    vm_log(s->log, "the guest is asked to shut down");
    s->guest.reboot_wanted = FALSE;
    if (strcmp(s->status->state, "running") == 0)
        guest_set_state(s, "in shutdown", "user");
}

static void
on_reboot_asked(Supervisor *s)
{
    vm_log(s->log, "the guest is asked to reboot");
    s->guest.reboot_wanted = TRUE;
}

static void
do_shutdown(Client *c, json_t *arguments, json_t *id)
{
    forward(c, "system_powerdown", NULL, id, on_shutdown_asked);
}

static void
do_reboot(Client *c, json_t *arguments, json_t *id)
{
    forward(c, "system_powerdown", NULL, id, on_reboot_asked);
}

/* The file is opened, or let go of, here; what that means to QEMU is said by QEMU. */
static void
answer_grant(Client *c, json_t *id, Grant *grant, const GError *why)
{
    if (why)
        client_send(c, qmp_error(why, id));
    else
        forward_grant(c, grant, id, NULL);
    grant_clear(grant);
}

static void
do_open(Client *c, json_t *arguments, json_t *id)
{
    Grant grant = { .fd = -1 };
    g_autoptr(GError) why = NULL;

    grant_open(arguments, &grant, &why);
    answer_grant(c, id, &grant, why);
}

static void
do_close(Client *c, json_t *arguments, json_t *id)
{
    Grant grant = { .fd = -1 };
    g_autoptr(GError) why = NULL;

    grant_close(c->broker->s, arguments, &grant, &why);
    answer_grant(c, id, &grant, why);
}

static void
do_live_xml(Client *c, json_t *arguments, json_t *id)
{
    g_autoptr(GError) why = NULL;
    gboolean done = live_xml_replace(c->broker->s, arguments, &why);

    client_send(c, done ? qmp_return(NULL, id) : qmp_error(why, id));
}

static void
do_state(Client *c, json_t *arguments, json_t *id)
{
    g_autoptr(GError) why = NULL;
    gboolean done = guest_name_state(c->broker->s, arguments, &why);

    client_send(c, done ? qmp_return(NULL, id) : qmp_error(why, id));
}

static void
do_capabilities(Client *c, json_t *arguments, json_t *id)
{
    c->negotiated = TRUE;
    client_send(c, qmp_return(NULL, id));
}

static const struct {
    const char *command;
    void (*run)(Client *c, json_t *arguments, json_t *id);
} own_commands[] = {
    { "kho-status", do_status },     { "kho-destroy", do_destroy }, { "kho-shutdown", do_shutdown },
    { "kho-reboot", do_reboot },     { "kho-open", do_open },       { "kho-close", do_close },
    { "kho-live-xml", do_live_xml }, { "kho-state", do_state },     { "qmp_capabilities", do_capabilities },
};

static void
run_command(Client *c, const json_t *message)
{
    const char *command = json_string_or(message, "execute", "");
    json_t *arguments = json_object_get(message, "arguments");
    json_t *id = json_object_get(message, "id");

    if (!*command || (arguments && !json_is_object(arguments))) {
        client_refuse(c, id, KHO_ERROR_INVALID,
                      "a command is an object with \"execute\" and perhaps \"arguments\"");
        return;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(own_commands); i++)
        if (strcmp(command, own_commands[i].command) == 0) {
            own_commands[i].run(c, arguments, id);
            return;
        }
    if (!c->negotiated) {
        client_send(c, qmp_error_unknown("Expecting capabilities negotiation with 'qmp_capabilities'", id));
    } else if (g_str_has_prefix(command, "kho-")) {
        g_autofree char *text = g_strdup_printf("The command %s has not been found", command);
        client_send(c, qmp_error_unknown(text, id));
    } else {
        forward(c, command, arguments, id, NULL);
    }
}

/* ---- connections ---- */

static void
run_messages(Client *c)
{
    g_autoptr(GError) why = NULL;

    while (!c->doomed && !c->broker->closing && c->open < OPEN_MAX) {
        json_auto json_t *message = NULL;
        if (!qmp_decoder_next(c->decoder, &message, &why)) {
            client_refuse(c, NULL, KHO_ERROR_INVALID, why->message);
            client_drop(c, why->message);
            return;
        }
        if (!message)
            return;
        run_command(c, message);
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
static void
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
    Client *c = g_new0(Client, 1);
    g_autoptr(GError) why = NULL;
    uid_t uid = (uid_t) -1;

    if (b->clients->len >= CLIENTS_MAX)
        make_room(b);
    *c = (Client){ .broker = b, .fd = fd, .decoder = qmp_decoder_new(QMP_CLIENT_MAX_BYTES) };
    c->unread = g_byte_array_new();
    c->heard_ms = clock_now_ms();
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
