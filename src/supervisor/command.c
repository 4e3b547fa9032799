#include "supervisor/command.h"

#include "base/error.h"
#include "base/fd.h"
#include "supervisor/broker.h"
#include "supervisor/grant.h"
#include "supervisor/monitor.h"
#include "supervisor/silence.h"
#include "supervisor/supervisor.h"
#include "supervisor/unplug.h"

#include <string.h>

#define DESTROY_TIMEOUT_MS 15000

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

    if (!silence_admits(c->s, &silent)) {
        client_send(c, qmp_error(silent, id));
        return;
    }
    Wait *w = wait_new(c, id);
    w->done = done;
    w->is_query = g_str_has_prefix(grant->command, "query-");
    if (!monitor_send_file(c->s->monitor, grant->command, json_incref(grant->arguments), fd_steal(&grant->fd),
                           on_reply, w)) {
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
    Supervisor *s = c->s;

    s->status->unanswered_ms = silence_ms(s);
    json_t *status = vm_status_to_json(s->status);
    if (strcmp(s->status->state, VM_STATE_STARTING) == 0) {
        json_set_string(status, "state", "paused");
        json_set_string(status, "reason", "starting up");
    }
    client_send(c, qmp_return(status, id));
}

/* libvirt's word for why QEMU is ended, as a constant; NULL for any other. */
static const char *
end_reason(const char *word)
{
    static const char *const words[] = { "destroyed", "saved", "failed", "from snapshot" };

    for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
        if (strcmp(word, words[i]) == 0)
            return words[i];
    return NULL;
}

static void
do_destroy(Client *c, json_t *arguments, json_t *id)
{
    gint64 timeout_ms = DESTROY_TIMEOUT_MS;
    gboolean graceful = FALSE;
    g_autofree char *word = NULL;
    g_autoptr(GError) why = NULL;

    if (!json_opt_int(arguments, "timeout-ms", "kho-destroy", &timeout_ms, &why)
        || !json_opt_bool(arguments, "graceful", "kho-destroy", &graceful, &why)
        || !json_opt_string(arguments, "reason", "kho-destroy", &word, &why)) {
        client_send(c, qmp_error(why, id));
        return;
    }
    if (timeout_ms < 0 || timeout_ms > 3600 * 1000) {
        client_refuse(c, id, KHO_ERROR_INVALID, "timeout-ms is not from 0 to 3600000");
        return;
    }
    const char *reason = end_reason(word ? word : "destroyed");
    if (!reason) {
        client_refuse(c, id, KHO_ERROR_INVALID, "reason is none of those that a machine is ended for");
        return;
    }
    g_autoptr(GError) silent = NULL;
    if (graceful && c->s->phase == PHASE_RUNNING && !silence_admits(c->s, &silent)) {
        client_send(c, qmp_error(silent, id));
        return;
    }
    broker_await_end(c->broker, wait_new(c, id));
    death_begin(c->s, reason, graceful, (guint) timeout_ms);
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

    grant_close(c->s, arguments, &grant, &why);
    answer_grant(c, id, &grant, why);
}

static void
do_live_xml(Client *c, json_t *arguments, json_t *id)
{
    g_autoptr(GError) why = NULL;
    gboolean done = live_xml_replace(c->s, arguments, &why);

    client_send(c, done ? qmp_return(NULL, id) : qmp_error(why, id));
    unplug_look(c->s); /* a disk that is gone may have come back into the XML */
}

static void
do_unplug(Client *c, json_t *arguments, json_t *id)
{
    g_autoptr(GError) why = NULL;
    gboolean done = unplug_note(c->s, arguments, &why);

    client_send(c, done ? qmp_return(NULL, id) : qmp_error(why, id));
}

static void
do_state(Client *c, json_t *arguments, json_t *id)
{
    g_autoptr(GError) why = NULL;
    gboolean done = guest_name_state(c->s, arguments, &why);

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
    const char
        *arguments; /* all that it knows, each with a space after it; NULL: as QEMU does, whatever is given */
} own_commands[] = {
    { "kho-status", do_status, "" },
    { "kho-destroy", do_destroy, "graceful timeout-ms reason " },
    { "kho-shutdown", do_shutdown, "" },
    { "kho-reboot", do_reboot, "" },
    { "kho-open", do_open, "path read-only fdset fdname offset " },
    { "kho-close", do_close, "fdset fd " },
    { "kho-live-xml", do_live_xml, "xml " },
    { "kho-state", do_state, "state reason " },
    { "kho-unplug", do_unplug, "device nodes " },
    { "qmp_capabilities", do_capabilities, NULL },
};

/* A word that is misspelt must not leave the command to what it does without it. */
static gboolean
check_arguments(const char *command, const char *known, json_t *arguments, GError **error)
{
    const char *key;
    json_t *value;

    json_object_foreach (arguments, key, value) {
        g_autofree char *word = g_strconcat(key, " ", NULL);
        const char *at = known ? strstr(known, word) : key;
        if (!at || (known && at != known && at[-1] != ' '))
            return fail(error, KHO_ERROR_INVALID, "%s has no argument '%s'", command, key);
    }
    return TRUE;
}

static void
run_own(Client *c, gsize i, json_t *arguments, json_t *id)
{
    g_autoptr(GError) why = NULL;

    if (check_arguments(own_commands[i].command, own_commands[i].arguments, arguments, &why))
        own_commands[i].run(c, arguments, id);
    else
        client_send(c, qmp_error(why, id));
}

void
command_run(Client *c, const json_t *message)
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
            run_own(c, i, arguments, id);
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
