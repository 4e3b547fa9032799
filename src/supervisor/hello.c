/* What is asked of QEMU before its guest may run, and again after an adoption: one question after the other,
 * from the table at the end. */
#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "supervisor/grant.h"
#include "supervisor/monitor.h"
#include "supervisor/step.h"
#include "supervisor/supervisor.h"
#include "supervisor/unplug.h"
#include "vm/folder.h"
#include "vm/qmp.h"

#include <string.h>

#define MEMORY_NAME "kho-memory"
/* How often QEMU is asked whether it has read all of its memory. */
#define LOAD_LOOK_MS 10

typedef struct Hello {
    Supervisor *s;
    guint next;  /* of the questions */
    guint links; /* of the plan's links_down that are down by now */
    json_t *chardevs, *vnc;
    gboolean loading; /* the same question again, a little later */
} Hello;

typedef struct {
    const char *command;
    gboolean (*wanted)(const Hello *h);                              /* NULL: always */
    json_t *(*arguments)(const Hello *h);                            /* NULL: none */
    gboolean (*take)(Hello *h, const json_t *reply, GError **error); /* NULL: whatever it says */
    gboolean (*send)(Hello *h, GError **error);                      /* NULL: the command and its arguments */
} Question;

static void ask_next(Hello *h);
static void on_reply(const json_t *reply, gpointer data);

static void
hello_free(Hello *h)
{
    json_decref(h->chardevs);
    json_decref(h->vnc);
    g_free(h);
}

/* A power-off and a panic leave QEMU to guest.c; so does a reset that is not to become a boot. */
static json_t *
actions(const Hello *h)
{
    gboolean reboots = h->s->status->on_reboot == VM_ACTION_RESTART;

    return json_pack("{s:s,s:s,s:s}", "shutdown", "pause", "panic", "pause", "reboot",
                     reboots ? "reset" : "shutdown");
}

static gboolean
must_work(Hello *h, const json_t *reply, GError **error)
{
    return json_object_get(reply, "return") || qmp_fail(reply, "what it was asked at the start", error);
}

static gboolean
take_chardevs(Hello *h, const json_t *reply, GError **error)
{
    h->chardevs = json_incref(json_object_get(reply, "return"));
    return must_work(h, reply, error);
}

/* A QEMU without VNC does not know the question. Then everything for live.xml is there. */
static gboolean
take_vnc(Hello *h, const json_t *reply, GError **error)
{
    Supervisor *s = h->s;

    h->vnc = json_incref(json_object_get(reply, "return"));
    if (!s->plan->live_xml)
        return TRUE;
    g_autofree char *xml = live_xml_complete(s->plan->live_xml, h->chardevs, h->vnc, error);
    if (!xml || !vm_folder_write(s->folder, VM_FILE_LIVE_XML, xml, error))
        return FALSE;
    step_reach(STEP_START_DESCRIBED);
    return TRUE;
}

static gboolean
take_state(Hello *h, const json_t *reply, GError **error)
{
    step_reach(STEP_ADOPT_ASKED);
    guest_reconcile(h->s, json_string_or(json_object_get(reply, "return"), "status", "unknown"));
    return TRUE;
}

static gboolean
is_start(const Hello *h)
{
    return h->s->phase == PHASE_STARTING;
}

static gboolean
is_adoption(const Hello *h)
{
    return !is_start(h);
}

static gboolean
may_run(const Hello *h)
{
    return is_start(h) && !h->s->plan->paused;
}

static gboolean
wants_memory(const Hello *h)
{
    return is_start(h) && h->s->plan->incoming_path;
}

static json_t *
late_activation(const Hello *h)
{
    return json_pack("{s:[{s:s,s:b}]}", "capabilities", "capability", "late-block-activate", "state",
                     h->s->plan->late_disks);
}

static json_t *
memory_uri(const Hello *h)
{
    return json_pack("{s:s}", "uri", "fd:" MEMORY_NAME);
}

static gboolean
take_load(Hello *h, const json_t *reply, GError **error)
{
    const json_t *answer = json_object_get(reply, "return");
    const char *status = json_string_or(answer, "status", "");

    if (strcmp(status, "completed") == 0) {
        h->s->status->images_inactive = h->s->plan->late_disks;
        return TRUE;
    }
    if (strcmp(status, "failed") == 0)
        return fail(error, KHO_ERROR_INVALID, "QEMU cannot take the memory of machine '%s': %s",
                    h->s->status->name, json_string_or(answer, "error-desc", "it gives no reason"));
    h->loading = TRUE;
    h->next--;
    return must_work(h, reply, error);
}

/* With memory comes what the balloon had. */
static gboolean
wants_balloon(const Hello *h)
{
    return is_start(h) && h->s->plan->balloon_bytes > 0 && !h->s->plan->incoming_path;
}

static json_t *
balloon(const Hello *h)
{
    return json_pack("{s:I}", "value", (json_int_t) h->s->plan->balloon_bytes);
}

static gboolean
wants_link_down(const Hello *h)
{
    char **ids = is_start(h) ? h->s->plan->links_down : NULL;

    return ids && h->links < g_strv_length(ids);
}

static json_t *
link_down(const Hello *h)
{
    return json_pack("{s:s,s:b}", "name", h->s->plan->links_down[h->links], "up", FALSE);
}

/* Asked once for each of them. */
static gboolean
take_link_down(Hello *h, const json_t *reply, GError **error)
{
    h->links++;
    h->next--;
    return must_work(h, reply, error);
}

/* QEMU is given the file as kho-open would. */
static gboolean
send_memory(Hello *h, GError **error)
{
    const VmPlan *plan = h->s->plan;
    json_auto json_t *wanted = json_pack("{s:s,s:b,s:s,s:I}", "path", plan->incoming_path, "read-only", TRUE,
                                         "fdname", MEMORY_NAME, "offset", (json_int_t) plan->incoming_off);
    Grant grant = { .fd = -1 };

    if (!grant_open(wanted, &grant, error))
        return FALSE;
    gboolean sent = monitor_send_file(h->s->monitor, grant.command, json_incref(grant.arguments),
                                      fd_steal(&grant.fd), on_reply, h);
    grant_clear(&grant);
    return sent || fail(error, KHO_ERROR_BUSY, "QEMU does not read its commands");
}

static const Question questions[] = {
    { "set-action", is_start, actions, must_work },
    { "query-chardev", is_start, NULL, take_chardevs },
    { "query-vnc", is_start, NULL, take_vnc },
    { "query-status", is_adoption, NULL, take_state },
    { "set_link", wants_link_down, link_down, take_link_down },
    { "balloon", wants_balloon, balloon, must_work },
    { "migrate-set-capabilities", wants_memory, late_activation, must_work },
    { "getfd", wants_memory, NULL, must_work, send_memory },
    { "migrate-incoming", wants_memory, memory_uri, must_work },
    { "query-migrate", wants_memory, NULL, take_load },
    { "cont", may_run, NULL, must_work },
};

/* The machine has started: it is published, and only then the starter is told. Where that cannot be written
 * down (a full disk) it has not started: who finds it without its kho-vm would end it. */
static gboolean
publish_start(Supervisor *s, GError **error)
{
    gboolean paused = s->plan->paused;

    step_reach(STEP_START_RUNNING);
    g_clear_handle_id(&s->start_timer, g_source_remove);
    guest_set_state(s, paused ? "paused" : "running", paused ? "starting up" : "booted");
    if (!vm_status_write(s->status, s->folder, error)) {
        g_prefix_error(error, "machine '%s': ", s->status->name);
        return FALSE;
    }
    s->phase = PHASE_RUNNING;
    step_reach(STEP_START_PUBLISHED);
    supervisor_answer(s, NULL);
    return TRUE;
}

static void
finish(Hello *h)
{
    g_autoptr(GError) why = NULL;

    if (is_start(h) && !publish_start(h->s, &why))
        start_fail(h->s, why);
    unplug_look(h->s);
    hello_free(h);
}

static gboolean
on_look_again(gpointer data)
{
    Hello *h = data;

    h->loading = FALSE;
    if (h->s->phase > PHASE_RUNNING)
        hello_free(h);
    else
        ask_next(h);
    return G_SOURCE_REMOVE;
}

static void
on_reply(const json_t *reply, gpointer data)
{
    Hello *h = data;
    g_autoptr(GError) why = NULL;
    const Question *question = &questions[h->next++];

    if (!reply || h->s->phase > PHASE_RUNNING) {
        hello_free(h); /* QEMU is ending; or the connection did, and the next one begins anew */
        return;
    }
    if (question->take && !question->take(h, reply, &why)) {
        start_fail(h->s, why);
        hello_free(h);
        return;
    }
    if (h->loading)
        g_timeout_add(LOAD_LOOK_MS, on_look_again, h);
    else
        ask_next(h);
}

static void
ask_next(Hello *h)
{
    while (h->next < G_N_ELEMENTS(questions) && questions[h->next].wanted && !questions[h->next].wanted(h))
        h->next++;
    if (h->next == G_N_ELEMENTS(questions)) {
        finish(h);
        return;
    }
    const Question *question = &questions[h->next];
    json_t *arguments = question->arguments ? question->arguments(h) : NULL;
    g_autoptr(GError) why = NULL;
    if (question->send ? question->send(h, &why)
                       : monitor_send(h->s->monitor, question->command, arguments, on_reply, h))
        return;
    if (why)
        start_fail(h->s, why);
    hello_free(h);
}

void
hello_begin(Supervisor *s)
{
    if (s->phase != PHASE_STARTING && s->phase != PHASE_RUNNING)
        return;
    Hello *h = g_new0(Hello, 1);
    h->s = s;
    if (is_start(h))
        step_reach(STEP_START_GREETED);
    ask_next(h);
}
