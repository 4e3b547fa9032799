#include "supervisor/monitor.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/sock.h"
#include "vm/folder.h"
#include "vm/qmp.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>

#define HEARTBEAT_MS 1000
/* After this without an answer nothing more is written to QEMU. */
#define HOLD_BACK_MS 250
/* Shorter silences are told as none. */
#define TOLD_MS 500
/* What is kept at most, and what is handed to the socket at once. */
#define WAITING_MAX (4 << 20)
#define WRITING_MAX (64 << 10)

typedef struct {
    gint64 id, written_ms;
    char *line; /* NULL once it is on its way */
    gsize len;
    int fd; /* goes with it; -1: none, or on its way */
    MonitorReply reply;
    gpointer data;
} Question;

struct Monitor {
    int folder, fd; /* fd -1: not connected */
    const MonitorHooks *hooks;
    gpointer data;
    QmpDecoder *decoder;
    json_t *greeting;
    gboolean ready;
    GQueue waiting; /* of Question: not written yet, oldest first */
    gsize waiting_bytes;
    GByteArray *unsent; /* of those in questions */
    int passing;        /* the descriptor that goes with the first byte of what is unsent; -1: none */
    GQueue questions;   /* of Question, oldest first; QEMU answers in their order */
    gint64 last_id;
    gint64 answered_ms;  /* when QEMU answered last */
    gint64 unready_ms;   /* since when QEMU has not greeted; valid while not ready */
    gint64 silent_ms;    /* since when it was silent before this monitor; 0: not known to have been */
    gboolean complained; /* about the last attempt to connect */
    guint in_watch, out_watch, heartbeat;
};

static void lose(Monitor *m, const char *why);

/* Lines go to the socket only while QEMU answers: until then they can be taken back. */
static gboolean
may_write(const Monitor *m)
{
    return !g_queue_is_empty((GQueue *) &m->waiting) && monitor_waited_ms(m) < HOLD_BACK_MS;
}

static void
fill_unsent(Monitor *m)
{
    while (m->unsent->len < WRITING_MAX && may_write(m)) {
        const Question *next = g_queue_peek_head(&m->waiting);
        if (next->fd >= 0 && m->unsent->len > 0)
            return; /* its descriptor needs a send that begins with it */
        Question *q = g_queue_pop_head(&m->waiting);
        g_byte_array_append(m->unsent, (const guint8 *) q->line, (guint) q->len);
        m->waiting_bytes -= q->len;
        g_clear_pointer(&q->line, g_free);
        q->written_ms = clock_now_ms();
        g_queue_push_tail(&m->questions, q);
        if (q->fd >= 0)
            m->passing = fd_steal(&q->fd);
    }
}

static gssize
send_some(Monitor *m)
{
    const guint8 *bytes = m->unsent->data;
    gsize len = m->unsent->len;
    gssize n = m->passing >= 0 ? sock_send_some_with(m->fd, bytes, len, m->passing)
                               : sock_send_some(m->fd, bytes, len);

    if (n > 0) {
        fd_clear(&m->passing);
        g_byte_array_remove_range(m->unsent, 0, (guint) n);
    }
    return n;
}

static gboolean
on_writable(gint fd, GIOCondition condition, gpointer data)
{
    Monitor *m = data;
    gssize n = send_some(m);

    if (n < 0 && errno != EAGAIN) {
        m->out_watch = 0;
        lose(m, g_strerror(errno));
        return G_SOURCE_REMOVE;
    }
    fill_unsent(m);
    if (m->unsent->len > 0)
        return G_SOURCE_CONTINUE;
    m->out_watch = 0;
    return G_SOURCE_REMOVE;
}

/* While QEMU answers a command is on its way at once, whether who sent it stays or not. */
static void
go_on_writing(Monitor *m)
{
    if (m->fd < 0 || !m->ready)
        return;
    fill_unsent(m);
    if (m->out_watch == 0 && m->unsent->len > 0)
        m->out_watch = g_unix_fd_add(m->fd, G_IO_OUT, on_writable, m);
}

static void
question_free(Question *q)
{
    fd_clear(&q->fd);
    g_free(q->line);
    g_free(q);
}

static void
question_answer(Question *q, const json_t *reply)
{
    if (q->reply)
        q->reply(reply, q->data);
    question_free(q);
}

/* Everybody who still waits learns that no answer comes. */
static void
fail_questions(Monitor *m)
{
    GQueue open[] = { m->questions, m->waiting };

    g_queue_init(&m->questions);
    g_queue_init(&m->waiting);
    m->waiting_bytes = 0;
    for (gsize i = 0; i < G_N_ELEMENTS(open); i++)
        for (Question *q = g_queue_pop_head(&open[i]); q; q = g_queue_pop_head(&open[i]))
            question_answer(q, NULL);
}

static void
lose(Monitor *m, const char *why)
{
    g_autofree char *text = g_strdup_printf("the connection to QEMU's monitor ended: %s", why);

    g_clear_handle_id(&m->in_watch, g_source_remove);
    g_clear_handle_id(&m->out_watch, g_source_remove);
    fd_clear(&m->fd);
    m->ready = FALSE;
    m->unready_ms = clock_now_ms();
    m->silent_ms = 0;
    fd_clear(&m->passing);
    g_byte_array_set_size(m->unsent, 0);
    m->hooks->note(text, m->data);
    fail_questions(m);
}

/* qmp_capabilities goes @first: what was asked before QEMU greeted waits behind it. */
static void
ask(Monitor *m, const char *command, json_t *arguments, const Question *what, gboolean first)
{
    Question *q = g_new0(Question, 1);

    *q = *what;
    q->id = ++m->last_id;
    json_auto json_t *message = qmp_command(command, arguments, json_integer(q->id));
    q->line = qmp_line(message, &q->len);
    m->waiting_bytes += q->len;
    if (first)
        g_queue_push_head(&m->waiting, q);
    else
        g_queue_push_tail(&m->waiting, q);
    go_on_writing(m);
}

gboolean
monitor_send_file(Monitor *m, const char *command, json_t *arguments, int fd, MonitorReply reply,
                  gpointer data)
{
    if (m->waiting_bytes > WAITING_MAX) {
        json_decref(arguments);
        fd_clear(&fd);
        return FALSE;
    }
    ask(m, command, arguments, &(Question){ .fd = fd, .reply = reply, .data = data }, FALSE);
    return TRUE;
}

gboolean
monitor_send(Monitor *m, const char *command, json_t *arguments, MonitorReply reply, gpointer data)
{
    return monitor_send_file(m, command, arguments, -1, reply, data);
}

gboolean
monitor_forget(Monitor *m, gconstpointer data)
{
    for (GList *l = m->waiting.head; l; l = l->next) {
        Question *q = l->data;
        if (q->data != data)
            continue;
        g_queue_delete_link(&m->waiting, l);
        m->waiting_bytes -= q->len;
        question_free(q);
        return TRUE;
    }
    return FALSE;
}

void
monitor_ignore(Monitor *m, gconstpointer data)
{
    if (monitor_forget(m, data))
        return;
    for (GList *l = m->questions.head; l; l = l->next) {
        Question *q = l->data;
        if (q->data != data)
            continue;
        q->reply = NULL;
        q->data = NULL;
    }
}

/* The answer to qmp_capabilities. */
static void
on_capabilities(const json_t *reply, gpointer data)
{
    Monitor *m = data;

    if (reply)
        m->hooks->ready(m->data);
}

static void
greet(Monitor *m, const json_t *message)
{
    json_decref(m->greeting);
    m->greeting = json_deep_copy(message);
    m->ready = TRUE;
    m->answered_ms = clock_now_ms();
    ask(m, "qmp_capabilities", NULL, &(Question){ .fd = -1, .reply = on_capabilities, .data = m }, TRUE);
}

/* An answer belongs to the question with its id; QEMU may leave the id out only where it could not parse,
 * which is then the oldest one's fault. */
static void
answer(Monitor *m, const json_t *message)
{
    gint64 id = json_int_or(message, "id", -1);

    for (GList *l = m->questions.head; l; l = l->next) {
        Question *q = l->data;
        if (id != -1 && q->id != id)
            continue;
        g_queue_delete_link(&m->questions, l);
        m->answered_ms = clock_now_ms();
        question_answer(q, message);
        go_on_writing(m);
        return;
    }
}

static void
take(Monitor *m, const json_t *message)
{
    if (json_object_get(message, "QMP"))
        greet(m, message);
    else if (json_object_get(message, "event"))
        m->hooks->event(message, m->data);
    else if (json_object_get(message, "return") || json_object_get(message, "error"))
        answer(m, message);
}

static gboolean
on_readable(gint fd, GIOCondition condition, gpointer data)
{
    Monitor *m = data;
    g_autoptr(GError) why = NULL;
    char chunk[65536];
    gssize n = pipe_read_some(fd, chunk, sizeof chunk);

    if (n < 0 && errno == EAGAIN)
        return G_SOURCE_CONTINUE;
    if (n > 0)
        qmp_decoder_feed(m->decoder, chunk, (gsize) n);
    while (n > 0 && m->fd >= 0) {
        json_auto json_t *message = NULL;
        if (!qmp_decoder_next(m->decoder, &message, &why))
            break;
        if (!message)
            return G_SOURCE_CONTINUE;
        take(m, message);
    }
    m->in_watch = 0;
    if (m->fd >= 0)
        lose(m, why ? why->message : n < 0 ? g_strerror(errno) : "QEMU closed it");
    return G_SOURCE_REMOVE;
}

static void
connect_monitor(Monitor *m)
{
    g_autoptr(GError) why = NULL;

    m->fd = sock_connect(m->folder, VM_FILE_MONITOR, deadline_in(0), &why);
    if (m->fd >= 0 && !pipe_set_nonblock(m->fd, TRUE, VM_FILE_MONITOR, &why))
        fd_clear(&m->fd);
    if (m->fd < 0) {
        if (!m->complained)
            m->hooks->note(why->message, m->data);
        m->complained = TRUE;
        return;
    }
    m->complained = FALSE;
    g_clear_pointer(&m->decoder, qmp_decoder_free);
    m->decoder = qmp_decoder_new(QMP_MAX_BYTES);
    m->in_watch = g_unix_fd_add(m->fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable, m);
}

/* Asks something small whenever nothing else is asked, so that silence is noticed; and connects again. */
static gboolean
on_heartbeat(gpointer data)
{
    Monitor *m = data;

    if (m->fd < 0)
        connect_monitor(m);
    else if (m->ready && g_queue_is_empty(&m->questions))
        monitor_send(m, "query-status", NULL, NULL, NULL);
    m->hooks->beat(m->data);
    return G_SOURCE_CONTINUE;
}

Monitor *
monitor_new(int folder, guint64 silent_ms, const MonitorHooks *hooks, gpointer data)
{
    Monitor *m = g_new0(Monitor, 1);
    gint64 now_ms = clock_now_ms();

    *m = (Monitor){ .folder = folder,
                    .fd = -1,
                    .hooks = hooks,
                    .data = data,
                    .unsent = g_byte_array_new(),
                    .passing = -1,
                    .answered_ms = now_ms - (gint64) silent_ms,
                    .unready_ms = now_ms,
                    .silent_ms = silent_ms > 0 ? now_ms - (gint64) silent_ms : 0 };
    g_queue_init(&m->waiting);
    g_queue_init(&m->questions);
    m->heartbeat = g_timeout_add(HEARTBEAT_MS, on_heartbeat, m);
    connect_monitor(m);
    return m;
}

void
monitor_free(Monitor *m)
{
    if (!m)
        return;
    g_clear_handle_id(&m->in_watch, g_source_remove);
    g_clear_handle_id(&m->out_watch, g_source_remove);
    g_clear_handle_id(&m->heartbeat, g_source_remove);
    fd_clear(&m->fd);
    fail_questions(m);
    g_clear_pointer(&m->decoder, qmp_decoder_free);
    json_decref(m->greeting);
    g_byte_array_unref(m->unsent);
    g_free(m);
}

guint64
monitor_waited_ms(const Monitor *m)
{
    const Question *oldest = g_queue_peek_head((GQueue *) &m->questions);
    gint64 now_ms = clock_now_ms();

    if (!m->ready)
        return (guint64) (now_ms - m->unready_ms);
    return oldest ? (guint64) (now_ms - MAX(oldest->written_ms, m->answered_ms)) : 0;
}

guint64
monitor_unanswered_ms(const Monitor *m)
{
    guint64 waited_ms = monitor_waited_ms(m);

    if (!m->ready && m->silent_ms != 0)
        return (guint64) (clock_now_ms() - m->silent_ms);
    return waited_ms < TOLD_MS ? 0 : waited_ms;
}

guint64
monitor_unheard_ms(const Monitor *m)
{
    return (guint64) (clock_now_ms() - m->answered_ms);
}

const json_t *
monitor_greeting(const Monitor *m)
{
    return m->greeting;
}
