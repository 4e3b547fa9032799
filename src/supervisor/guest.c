/* What the guest does, as far as QEMU's events tell: the state that kho-status answers, and on_poweroff,
 * on_reboot and on_crash.
 *
 *   event            state afterwards              and
 *   RESUME           running (booted | unpaused)
 *   STOP             paused (user, or as said by the event before it), unless SHUTDOWN or GUEST_PANICKED
 * caused it BLOCK_IO_ERROR   -                             the next STOP is an I/O error WATCHDOG         -
 * the next STOP is the watchdog's SUSPEND, WAKEUP  pmsuspended, running RESET            running (booted)
 * counted; `cont` where a restart waits for it SHUTDOWN         in shutdown                   on_poweroff, or
 * on_reboot for a reset that QEMU held up GUEST_PANICKED   crashed (panicked)            on_crash
 *
 * With `set-action` (hello.c) a power-off and a panic stop the guest and leave QEMU; so does a guest's reset
 * where on_reboot is not restart. */
#include "base/error.h"
#include "base/pipe.h"
#include "supervisor/grant.h"
#include "supervisor/monitor.h"
#include "supervisor/supervisor.h"
#include "supervisor/unplug.h"

#include <string.h>

/* More restarts than fit the ring within this time end in `crashed`: the guest boots in circles. */
#define RESTARTS_WITHIN_MS 60000
#define REASON_MAX_BYTES   60
/* How long QEMU may take to flush its disks when the guest has powered off. */
#define END_TIMEOUT_MS 60000

void
guest_publish(Supervisor *s)
{
    g_autoptr(GError) why = NULL;

    if (s->folder >= 0 && s->phase < PHASE_OVER && !vm_status_write(s->status, s->folder, &why))
        vm_log(s->log, "cannot write the status: %s", why->message);
}

void
guest_set_state(Supervisor *s, const char *state, const char *reason)
{
    VmStatus *now = s->status;

    now->paused = strcmp(state, "paused") == 0;
    if (strcmp(now->state, state) == 0 && strcmp(now->reason, reason) == 0)
        return;
    g_free(now->state);
    g_free(now->reason);
    now->state = g_strdup(state);
    now->reason = g_strdup(reason);
    now->since_ms = clock_wall_ms();
    vm_log(s->log, "the machine is %s (%s)", state, reason);
    if (s->phase != PHASE_STARTING)
        guest_publish(s);
}

/* QEMU writes its memory out and lets go of its images; any `cont` takes them back, and nothing else does: a
 * reset only hides it, since QEMU does not say "postmigrate" any more. */
static void
set_images_inactive(Supervisor *s, gboolean inactive)
{
    if (s->status->images_inactive == inactive)
        return;
    s->status->images_inactive = inactive;
    if (s->phase != PHASE_STARTING)
        guest_publish(s);
}

static gboolean
is_state(const Supervisor *s, const char *state)
{
    return strcmp(s->status->state, state) == 0;
}

/* What may stand in the log and be shown to people. */
static gboolean
is_word(const char *reason)
{
    gsize len = 0;

    while (g_ascii_isprint(reason[len]))
        len++;
    return len > 0 && len <= REASON_MAX_BYTES && reason[len] == '\0';
}

gboolean
guest_name_state(Supervisor *s, const json_t *arguments, GError **error)
{
    g_autofree char *state = NULL;
    g_autofree char *reason = NULL;

    if (!json_get_string(arguments, "state", "kho-state", &state, error)
        || !json_opt_string(arguments, "reason", "kho-state", &reason, error))
        return FALSE;
    gboolean runs = strcmp(state, "running") == 0;
    if (!runs && strcmp(state, "paused") != 0)
        return fail(error, KHO_ERROR_INVALID, "kho-state: state '%s' is not running or paused", state);
    if (reason && !is_word(reason))
        return fail(error, KHO_ERROR_INVALID, "kho-state: the reason is not 1 to %d printable characters",
                    REASON_MAX_BYTES);
    char **told = runs ? &s->guest.told_run : &s->guest.told_pause;
    g_clear_pointer(told, g_free);
    if (reason && is_state(s, state))
        guest_set_state(s, state, reason);
    else
        *told = g_steal_pointer(&reason);
    return TRUE;
}

/* Counts one restart; FALSE when there were too many. */
static gboolean
restart_counts(Supervisor *s)
{
    guint slots = G_N_ELEMENTS(s->guest.restarts_ms);
    gint64 now_ms = clock_now_ms();
    guint slot = s->guest.n_restarts++ % slots;
    gboolean full = s->guest.n_restarts >= slots;

    s->guest.restarts_ms[slot] = now_ms;
    gint64 oldest_ms = s->guest.restarts_ms[s->guest.n_restarts % slots];
    return !full || now_ms - oldest_ms > RESTARTS_WITHIN_MS;
}

static void
give_up(Supervisor *s)
{
    vm_log(s->log, "the guest restarted more than %u times within %d s: no further attempt",
           (guint) G_N_ELEMENTS(s->guest.restarts_ms) - 1, RESTARTS_WITHIN_MS / 1000);
    death_begin(s, "crashed", FALSE, END_TIMEOUT_MS);
}

/* Within the same QEMU, so that the devices stay as the live XML says: `cont` follows in on_reset. */
static void
restart(Supervisor *s)
{
    if (!restart_counts(s)) {
        give_up(s);
        return;
    }
    s->guest.restarting = TRUE;
    monitor_send(s->monitor, "system_reset", NULL, NULL, NULL);
}

static void
act(Supervisor *s, VmAction action, const char *end_reason, const char *kept_state, const char *kept_reason)
{
    if (s->phase >= PHASE_ENDING)
        return;
    vm_log(s->log, "what follows: %s", vm_action_word(action));
    switch (action) {
    case VM_ACTION_RESTART: restart(s); return;
    case VM_ACTION_PRESERVE: guest_set_state(s, kept_state, kept_reason); return;
    case VM_ACTION_DESTROY:
    case VM_ACTION_N: death_begin(s, end_reason, FALSE, END_TIMEOUT_MS); return;
    }
}

static void
on_powered_off(Supervisor *s)
{
    gboolean reboot = s->guest.reboot_wanted;

    s->guest.powered_off = TRUE;
    s->guest.reboot_wanted = FALSE;
    guest_set_state(s, "in shutdown", "user");
    act(s, reboot ? VM_ACTION_RESTART : s->status->on_poweroff, "shutdown", "paused", "shutting down");
}

static void
on_shutdown(Supervisor *s, const json_t *data)
{
    const char *reason = json_string_or(data, "reason", "");

    vm_log(s->log, "QEMU reports a shutdown: %s", reason);
    if (strcmp(reason, "guest-reset") == 0) {
        s->guest.powered_off = TRUE;
        guest_set_state(s, "in shutdown", "user");
        act(s, s->status->on_reboot, "shutdown", "paused", "shutting down");
    } else if (strcmp(reason, "host-qmp-quit") == 0 || strcmp(reason, "host-signal") == 0) {
        /* Not of the guest's doing: a client's `quit`, a signal from outside, or death.c's own. */
        if (!s->death.reason)
            s->death.reason = "destroyed";
    } else if (strcmp(reason, "guest-panic") != 0) {
        on_powered_off(s);
    }
}

static void
on_reset(Supervisor *s, const json_t *data)
{
    s->guest.powered_off = FALSE;
    if (s->guest.restarting) {
        s->guest.restarting = FALSE;
        vm_log(s->log, "the guest starts again");
        monitor_send(s->monitor, "cont", NULL, NULL, NULL);
        return;
    }
    if (!json_is_true(json_object_get(data, "guest")) || s->phase == PHASE_ENDING)
        return;
    vm_log(s->log, "the guest was reset (%s)", json_string_or(data, "reason", "unknown"));
    s->guest.reboot_wanted = FALSE;
    if (!restart_counts(s))
        give_up(s);
    else if (is_state(s, "in shutdown"))
        guest_set_state(s, "running", "booted");
}

static void
on_panicked(Supervisor *s, const json_t *data)
{
    if (is_state(s, "crashed")) /* told twice: by pvpanic and by the processor */
        return;
    s->guest.powered_off = TRUE;
    vm_log(s->log, "the guest panicked");
    guest_set_state(s, "crashed", "panicked");
    act(s, s->status->on_crash, "crashed", "crashed", "panicked");
}

static void
on_stop(Supervisor *s, const json_t *data)
{
    g_autofree char *told = g_steal_pointer(&s->guest.told_pause);
    const char *reason = s->guest.pause_reason ? s->guest.pause_reason : told ? told : "user";

    s->guest.pause_reason = NULL;
    s->guest.runs = FALSE;
    if (!s->guest.powered_off)
        guest_set_state(s, "paused", reason);
}

static void
on_resume(Supervisor *s, const json_t *data)
{
    g_autofree char *told = g_steal_pointer(&s->guest.told_run);

    s->guest.pause_reason = NULL;
    s->guest.runs = TRUE;
    set_images_inactive(s, FALSE);
    guest_set_state(s, "running", told ? told : is_state(s, "paused") ? "unpaused" : "booted");
    grant_resumed(s);
}

static void
on_migration(Supervisor *s, const json_t *data)
{
    if (strcmp(json_string_or(data, "status", ""), "completed") == 0)
        set_images_inactive(s, TRUE);
}

static void
on_io_error(Supervisor *s, const json_t *data)
{
    const char *disk = json_string_or(data, "node-name", "");

    vm_log(s->log, "disk %s: %s failed: %s (%s)", *disk ? disk : json_string_or(data, "device", "?"),
           json_string_or(data, "operation", "input or output"), json_string_or(data, "reason", "?"),
           json_string_or(data, "action", "?"));
    if (strcmp(json_string_or(data, "action", ""), "stop") == 0)
        s->guest.pause_reason = "I/O error";
}

static void
on_watchdog(Supervisor *s, const json_t *data)
{
    const char *action = json_string_or(data, "action", "?");

    vm_log(s->log, "the watchdog went off: %s", action);
    if (strcmp(action, "pause") == 0)
        s->guest.pause_reason = "watchdog";
}

static void
on_suspend(Supervisor *s, const json_t *data)
{
    guest_set_state(s, "pmsuspended", "unknown");
}

static void
on_wakeup(Supervisor *s, const json_t *data)
{
    guest_set_state(s, "running", "event wakeup");
}

static void
on_device_deleted(Supervisor *s, const json_t *data)
{
    unplug_look(s);
}

/* What it used may be free now. */
static void
on_job(Supervisor *s, const json_t *data)
{
    if (strcmp(json_string_or(data, "status", ""), "null") == 0)
        unplug_look(s);
}

static const struct {
    const char *event;
    void (*handle)(Supervisor *s, const json_t *data);
} events[] = {
    { "RESUME", on_resume },
    { "STOP", on_stop },
    { "MIGRATION", on_migration },
    { "BLOCK_IO_ERROR", on_io_error },
    { "WATCHDOG", on_watchdog },
    { "SUSPEND", on_suspend },
    { "WAKEUP", on_wakeup },
    { "RESET", on_reset },
    { "SHUTDOWN", on_shutdown },
    { "GUEST_PANICKED", on_panicked },
    { "DEVICE_DELETED", on_device_deleted },
    { "JOB_STATUS_CHANGE", on_job },
};

void
guest_event(Supervisor *s, const char *event, const json_t *data)
{
    for (gsize i = 0; i < G_N_ELEMENTS(events); i++)
        if (strcmp(event, events[i].event) == 0)
            events[i].handle(s, data);
}

/* A memory that was written, or a guest that ran, while nobody listened. Of a guest that did neither QEMU's
 * word says nothing: it is as it was. */
static void
reconcile_images(Supervisor *s, const char *qemu_state)
{
    static const char *const silent[] = { "prelaunch", "paused", "finish-migrate", "inmigrate", NULL };

    if (!g_strv_contains(silent, qemu_state))
        set_images_inactive(s, strcmp(qemu_state, "postmigrate") == 0);
}

void
guest_reconcile(Supervisor *s, const char *qemu_state)
{
    static const struct {
        const char *qemu, *state, *reason;
    } rows[] = {
        { "running", "running", "unknown" },        { "paused", "paused", "unknown" },
        { "io-error", "paused", "I/O error" },      { "watchdog", "paused", "watchdog" },
        { "suspended", "pmsuspended", "unknown" },  { "postmigrate", "paused", "migrating" },
        { "internal-error", "crashed", "unknown" },
    };

    vm_log(s->log, "QEMU says: %s", qemu_state);
    reconcile_images(s, qemu_state);
    s->guest.runs = strcmp(qemu_state, "running") == 0;
    if (strcmp(qemu_state, "shutdown") == 0) {
        if (strcmp(s->status->reason, "shutting down") != 0)
            on_powered_off(s);
    } else if (strcmp(qemu_state, "guest-panicked") == 0) {
        on_panicked(s, NULL);
    } else if (strcmp(qemu_state, "prelaunch") == 0 && !s->status->paused) {
        /* The dead kho-vm had reset it and not come to `cont`. */
        monitor_send(s->monitor, "cont", NULL, NULL, NULL);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        if (strcmp(qemu_state, rows[i].qemu) == 0 && !is_state(s, rows[i].state)
            && !(is_state(s, "in shutdown") && strcmp(qemu_state, "running") == 0))
            guest_set_state(s, rows[i].state, rows[i].reason);
}
