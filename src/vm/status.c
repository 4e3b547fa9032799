#include "vm/status.h"

#include "base/error.h"
#include "vm/folder.h"

VmStatus *
vm_status_new(void)
{
    return g_new0(VmStatus, 1);
}

void
vm_status_free(VmStatus *status)
{
    if (!status)
        return;
    g_free(status->name);
    g_free(status->uuid);
    g_free(status->state);
    g_free(status->reason);
    g_free(status->boot_id);
    g_free(status->version);
    g_free(status->log_path);
    g_free(status);
}

json_t *
vm_status_to_json(const VmStatus *status)
{
    json_t *json = json_object();

    json_object_set_new(json, "format", json_integer(VM_STATUS_VERSION));
    json_set_string(json, "name", status->name);
    json_set_string(json, "uuid", status->uuid);
    json_object_set_new(json, "id", json_integer(status->id));
    json_set_string(json, "state", status->state);
    json_set_string(json, "reason", status->reason);
    json_object_set_new(json, "paused", json_boolean(status->paused));
    json_object_set_new(json, "images-inactive", json_boolean(status->images_inactive));
    json_object_set_new(json, "since-ms", json_integer(status->since_ms));
    json_object_set_new(json, "started-ms", json_integer(status->started_ms));
    json_object_set_new(json, "pid", json_integer(status->pid));
    json_object_set_new(json, "pid-start-ticks", json_integer((json_int_t) status->pid_start));
    json_set_string(json, "boot-id", status->boot_id);
    json_object_set_new(json, "supervisor-pid", json_integer(status->supervisor_pid));
    json_object_set_new(json, "supervisor-start-ticks", json_integer((json_int_t) status->supervisor_start));
    json_object_set_new(json, "unanswered-ms", json_integer((json_int_t) status->unanswered_ms));
    json_object_set_new(json, "silent-since-ms", json_integer(status->silent_since_ms));
    json_set_string(json, "version", status->version);
    json_set_string(json, "log-path", status->log_path);
    json_set_string(json, "on-poweroff", vm_action_word(status->on_poweroff));
    json_set_string(json, "on-reboot", vm_action_word(status->on_reboot));
    json_set_string(json, "on-crash", vm_action_word(status->on_crash));
    return json;
}

static gboolean
get_action(const json_t *json, const char *key, const char *label, VmAction *action, GError **error)
{
    g_autofree char *word = NULL;
    return json_get_string(json, key, label, &word, error) && vm_action_parse(word, key, action, error);
}

static gboolean
get_words(const json_t *json, const char *label, VmStatus *s, GError **error)
{
    return json_get_string(json, "name", label, &s->name, error)
           && json_get_string(json, "uuid", label, &s->uuid, error)
           && json_get_string(json, "state", label, &s->state, error)
           && json_get_string(json, "reason", label, &s->reason, error)
           && json_get_string(json, "boot-id", label, &s->boot_id, error)
           && json_opt_string(json, "version", label, &s->version, error)
           && json_get_string(json, "log-path", label, &s->log_path, error)
           && get_action(json, "on-poweroff", label, &s->on_poweroff, error)
           && get_action(json, "on-reboot", label, &s->on_reboot, error)
           && get_action(json, "on-crash", label, &s->on_crash, error);
}

static gboolean
get_numbers(const json_t *json, const char *label, VmStatus *s, GError **error)
{
    gint64 id = 0;
    gint64 ticks = 0;
    gint64 supervisor_ticks = 0;
    gint64 unanswered_ms = 0;

    if (!json_get_int(json, "id", label, &id, error) || !json_get_int(json, "pid", label, &s->pid, error)
        || !json_get_int(json, "pid-start-ticks", label, &ticks, error)
        || !json_get_int(json, "since-ms", label, &s->since_ms, error)
        || !json_get_int(json, "started-ms", label, &s->started_ms, error)
        || !json_get_int(json, "supervisor-pid", label, &s->supervisor_pid, error)
        || !json_get_int(json, "supervisor-start-ticks", label, &supervisor_ticks, error)
        || !json_opt_int(json, "unanswered-ms", label, &unanswered_ms, error)
        || !json_opt_int(json, "silent-since-ms", label, &s->silent_since_ms, error)
        || !json_get_bool(json, "paused", label, &s->paused, error)
        || !json_opt_bool(json, "images-inactive", label, &s->images_inactive, error))
        return FALSE;
    if (id < 0 || id > G_MAXINT || s->pid < 0 || s->pid > G_MAXINT || ticks < 0 || supervisor_ticks < 0
        || s->silent_since_ms < 0 || s->supervisor_pid < 0 || s->supervisor_pid > G_MAXINT
        || unanswered_ms < 0)
        return fail(error, KHO_ERROR_INVALID, "%s: a number is out of range", label);
    s->id = (gint) id;
    s->pid_start = (guint64) ticks;
    s->supervisor_start = (guint64) supervisor_ticks;
    s->unanswered_ms = (guint64) unanswered_ms;
    return TRUE;
}

VmStatus *
vm_status_from_json(const json_t *json, const char *label, GError **error)
{
    g_autoptr(VmStatus) status = vm_status_new();
    gint64 format;

    if (!json_get_int(json, "format", label, &format, error))
        return NULL;
    if (format != VM_STATUS_VERSION) {
        fail(error, KHO_ERROR_UNSUPPORTED, "%s has format %" G_GINT64_FORMAT ", and this kho knows %d", label,
             format, VM_STATUS_VERSION);
        return NULL;
    }
    if (!get_words(json, label, status, error) || !get_numbers(json, label, status, error))
        return NULL;
    return g_steal_pointer(&status);
}

VmStatus *
vm_status_read(int folder, GError **error)
{
    gsize len;
    g_autofree char *text = vm_folder_read(folder, VM_FILE_STATUS, &len, error);
    json_auto json_t *json = text ? json_parse(text, len, VM_FILE_STATUS, error) : NULL;

    return json ? vm_status_from_json(json, VM_FILE_STATUS, error) : NULL;
}

gboolean
vm_status_write(const VmStatus *status, int folder, GError **error)
{
    json_auto json_t *json = vm_status_to_json(status);
    json_object_del(json, "unanswered-ms");
    g_autofree char *text = json_line(json);
    g_autofree char *line = g_strconcat(text, "\n", NULL);

    return vm_folder_write(folder, VM_FILE_STATUS, line, error);
}

static void
process_of(gint64 pid, guint64 start_ticks, const char *boot_id, ProcId *id)
{
    *id = (ProcId){ .pid = (pid_t) pid, .start_ticks = start_ticks };
    g_strlcpy(id->boot_id, boot_id, sizeof id->boot_id);
}

void
vm_status_process(const VmStatus *status, ProcId *qemu, ProcId *supervisor)
{
    process_of(status->pid, status->pid_start, status->boot_id, qemu);
    process_of(status->supervisor_pid, status->supervisor_start, status->boot_id, supervisor);
}
